#include "heddle/sync/group.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "heddle/sync/collective.hpp"
#include "support/group_world.hpp"
#include "support/process.hpp"

namespace heddle {
namespace {

using test::at_once;
using test::eventually;
using test::GroupWorker;
using test::GroupWorkers;
using test::joined;
using test::passed;
using test::peer_died;
using test::soon;
using test::timeout_for;
using test::together;
using testing::HasSubstr;
using World = test::GroupWorld;
using namespace std::chrono_literals;

// As docs/collective.md draws them, for tests that damage or read them.
constexpr std::size_t size_at = 0, places_at = 4, exchange_bytes_at = 8, state_at = 64,
                      place_words_at = 128, place_stride = 256;
// What a member has done: filled, reduced, and the numbers of its calls.
constexpr std::size_t counts_in_place[] = {64, 72, 128, 192};

Group::Options of(std::uint32_t size, std::uint32_t places = 0) {
  return {.size = size, .places = places, .exchange_bytes = page_bytes};
}

template <class F>
std::optional<Errc> error_of(F&& f, std::string* message = nullptr) {
  try {
    f();
  } catch (const Error& error) {
    if (message != nullptr) *message = error.what();
    return error.code();
  }
  return std::nullopt;
}

bool is_asked_for(std::uint64_t epoch, const World& world, std::uint32_t place) {
  const std::atomic_ref word(world.at<std::uint64_t>(place_words_at + place * place_stride));
  return word.load(std::memory_order_relaxed) >> 50 == epoch;
}

TEST(Group, first_epoch_begins_when_all_have_joined) {
  World world(of(3));
  GroupWorker first(world, 0);
  std::string message;
  EXPECT_EQ(error_of([&] { first.join(at_once); }, &message), Errc::timeout);
  EXPECT_THAT(message, HasSubstr("3 members must join"));
  EXPECT_FALSE(first.member.is_member());

  GroupWorkers workers = joined(world, 3);
  for (std::uint32_t rank = 0; rank < 3; ++rank) {
    EXPECT_EQ(workers[rank]->member.rank(), rank);
    EXPECT_EQ(workers[rank]->member.size(), 3U);
    EXPECT_EQ(workers[rank]->member.epoch(), 1U);
  }
}

TEST(Group, a_join_that_times_out_gives_its_place_back) {
  World world(of(2, 2));
  for (std::uint32_t i = 0; i < 10; ++i) {
    GroupWorker worker(world, i);
    EXPECT_EQ(error_of([&] { worker.join(at_once); }), Errc::timeout);
  }
  joined(world, 2);
}

TEST(Group, too_many_is_an_error_and_a_dead_ones_place_is_free) {
  World world(of(1, 1));
  GroupWorkers first = joined(world, 1);
  GroupWorker second(world, 1);
  std::string message;
  EXPECT_EQ(error_of([&] { second.join(at_once); }, &message), Errc::too_many);
  EXPECT_THAT(message, HasSubstr("all 1 places"));
  first[0]->die();  // nobody has found it yet
  second.join(at_once);
  EXPECT_EQ(second.member.size(), 1U);
  EXPECT_EQ(second.member.epoch(), 2U);
  EXPECT_EQ(second.member.barrier(at_once), passed);
}

TEST(Group, one_that_dies_while_it_joins_is_not_waited_for) {
  World world(of(2, 2));
  std::optional<GroupWorker> dying(std::in_place, world, 5U);
  std::thread joins(
      [&] { EXPECT_EQ(error_of([&] { dying->join(Deadline::after(500ms)); }), Errc::timeout); });
  ASSERT_TRUE(eventually([&] { return is_asked_for(1, world, 0); }));
  dying->die();
  joins.join();
  joined(world, 2);
}

TEST(Group, survivors_rebuild_and_close_up) {
  World world(of(4));
  GroupWorkers workers = joined(world, 4);
  workers[1]->die();
  workers.erase(workers.begin() + 1);
  together(workers, [](GroupWorker& worker) {
    EXPECT_EQ(worker.member.barrier(soon()), peer_died(1));
    EXPECT_EQ(worker.member.barrier(soon()), peer_died(1)) << "GROUP-4: it stays broken";
    EXPECT_EQ(worker.member.rebuild(soon()), passed);
    EXPECT_EQ(worker.member.barrier(soon()), passed);
  });
  for (std::uint32_t rank = 0; rank < 3; ++rank) {
    EXPECT_EQ(workers[rank]->member.rank(), rank);
    EXPECT_EQ(workers[rank]->member.size(), 3U);
    EXPECT_EQ(workers[rank]->member.epoch(), 2U);
  }
}

TEST(Group, a_death_after_ones_part_is_told_in_the_next_step) {  // GROUP-3
  World world(of(3));
  GroupWorkers workers = joined(world, 3);
  for (auto& worker : workers) EXPECT_EQ(worker->member.begin({}), passed);
  workers[2]->die_and_be_found();
  EXPECT_EQ(workers[0]->member.wait(soon()), passed);
  EXPECT_EQ(workers[1]->member.wait(soon()), passed);
  EXPECT_EQ(workers[0]->member.barrier(soon()), peer_died(2));
  EXPECT_EQ(workers[1]->member.barrier(soon()), peer_died(2));
}

// The dead has done its part, and one that lives has not begun when it hears of the death: it never
// will, so nobody passes.
TEST(Group, a_step_is_passed_by_all_survivors_or_by_none) {  // GROUP-3
  World world(of(3));
  GroupWorkers workers = joined(world, 3);
  EXPECT_EQ(workers[0]->member.begin({}), passed);
  EXPECT_EQ(workers[2]->member.begin({}), passed);
  workers[2]->die_and_be_found();
  EXPECT_EQ(workers[0]->member.wait(at_once), timeout_for(1)) << "it may yet come";
  EXPECT_EQ(workers[1]->member.begin({}), peer_died(2));
  EXPECT_EQ(workers[0]->member.wait(at_once), peer_died(2));

  // And one that asks for the next epoch without a look at this one.
  World other(of(3));
  GroupWorkers others = joined(other, 3);
  EXPECT_EQ(others[0]->member.begin({}), passed);
  EXPECT_EQ(others[2]->member.begin({}), passed);
  others[2]->die_and_be_found();
  EXPECT_EQ(others[1]->member.rebuild(at_once).status, Status::timeout);
  EXPECT_EQ(others[0]->member.wait(at_once), peer_died(2));
}

TEST(Group, rebuild_takes_in_who_has_joined_meanwhile) {
  World world(of(2, 4));
  GroupWorkers workers = joined(world, 2);
  workers.push_back(std::make_unique<GroupWorker>(world, 2));
  workers.push_back(std::make_unique<GroupWorker>(world, 3));
  EXPECT_EQ(error_of([&] { workers[2]->join(at_once); }), Errc::timeout);
  together(workers, [&](GroupWorker& worker) {
    if (worker.member.is_member()) {
      ASSERT_TRUE(
          eventually([&] { return is_asked_for(2, world, 2) && is_asked_for(2, world, 3); }));
      EXPECT_EQ(worker.member.rebuild(soon()), passed);
    } else {
      worker.join();
    }
    EXPECT_EQ(worker.member.barrier(soon()), passed);
  });
  for (auto& worker : workers) {
    EXPECT_EQ(worker->member.size(), 4U);
    EXPECT_EQ(worker->member.epoch(), 2U);
  }
}

TEST(Group, a_newcomer_takes_the_dead_ones_place) {
  World world(of(2, 2));
  GroupWorkers workers = joined(world, 2);
  workers[0]->die();
  workers[0] = std::make_unique<GroupWorker>(world, 7U);
  together(workers, [](GroupWorker& worker) {
    if (worker.member.is_member()) {
      EXPECT_EQ(worker.member.barrier(soon()), peer_died(0));
      do {  // alone, when it is faster than the newcomer
        EXPECT_EQ(worker.member.rebuild(soon()), passed);
      } while (worker.member.size() == 1);
    } else {
      worker.join();
    }
    EXPECT_EQ(worker.member.barrier(soon()), passed);
  });
}

TEST(Group, rebuild_with_nobody_dead_keeps_the_ranks) {
  World world(of(3));
  GroupWorkers workers = joined(world, 3);
  for (std::uint64_t epoch = 2; epoch < 50; ++epoch) {
    together(workers, [&](GroupWorker& worker) {
      const std::uint32_t rank = worker.member.rank();
      EXPECT_EQ(worker.member.barrier(soon()), passed);
      EXPECT_EQ(worker.member.rebuild(soon()), passed);
      EXPECT_EQ(worker.member.epoch(), epoch);
      EXPECT_EQ(worker.member.rank(), rank);
      EXPECT_EQ(worker.member.size(), 3U);
    });
  }
}

TEST(Group, rebuild_that_times_out_is_called_again) {
  World world(of(2));
  GroupWorkers workers = joined(world, 2);
  EXPECT_EQ(workers[0]->member.rebuild(at_once).status, Status::timeout);
  EXPECT_EQ(workers[0]->member.rebuild(at_once).status, Status::timeout);
  EXPECT_EQ(workers[1]->member.rebuild(at_once), passed);
  EXPECT_EQ(workers[1]->member.barrier(at_once), timeout_for(0));
  EXPECT_EQ(workers[0]->member.rebuild(at_once), passed);
  EXPECT_EQ(workers[0]->member.barrier(at_once), passed);
  EXPECT_EQ(workers[1]->member.wait(at_once), passed);
}

// Else both would wait for the other: one for its step, one for its rebuild.
TEST(Group, rebuild_ends_the_epoch_for_those_who_wait_in_it) {
  World world(of(2));
  GroupWorkers workers = joined(world, 2);
  EXPECT_EQ(workers[1]->member.begin({}), passed);
  EXPECT_EQ(workers[0]->member.rebuild(at_once).status, Status::timeout);
  EXPECT_EQ(workers[1]->member.wait(soon()), peer_died(0));
  EXPECT_EQ(workers[1]->member.rebuild(at_once), passed);
  EXPECT_EQ(workers[0]->member.rebuild(at_once), passed);
}

// It begins without rank 0, who sleeps, and is broken before it wakes.
TEST(Group, an_epoch_that_broke_before_one_entered_it_is_broken_for_him_too) {  // GROUP-4
  World world(of(3));
  GroupWorkers workers = joined(world, 3);
  workers[2]->die_and_be_found();
  EXPECT_EQ(workers[0]->member.rebuild(at_once).status, Status::timeout);
  EXPECT_EQ(workers[1]->member.rebuild(at_once), passed);
  workers[1]->die_and_be_found();
  EXPECT_EQ(workers[0]->member.rebuild(at_once), passed);
  EXPECT_EQ(workers[0]->member.size(), 2U);
  EXPECT_EQ(workers[0]->member.barrier(Deadline::after(5s)), peer_died(1));
  EXPECT_EQ(workers[0]->member.rebuild(at_once), passed);
  EXPECT_EQ(workers[0]->member.size(), 1U);
}

TEST(Group, leaving_breaks_the_epoch_and_says_who) {
  World world(of(3));
  GroupWorkers workers = joined(world, 3);
  EXPECT_EQ(workers[0]->member.begin({}), passed);
  EXPECT_EQ(workers[1]->member.begin({}), passed);
  workers[1]->member.leave();
  EXPECT_FALSE(workers[1]->member.is_member());
  EXPECT_EQ(workers[2]->member.begin({}), peer_died(1));
  EXPECT_EQ(workers[0]->member.wait(at_once), peer_died(1));
  EXPECT_EQ(workers[0]->member.rebuild(at_once).status, Status::timeout);
  EXPECT_EQ(workers[2]->member.rebuild(at_once), passed);
  EXPECT_EQ(workers[2]->member.rank(), 1U);
}

TEST(Group, the_last_call_is_over_for_those_who_are_slower_to_leave) {
  World world(of(4));
  GroupWorkers workers = joined(world, 4);
  together(workers, [](GroupWorker& worker) {
    EXPECT_EQ(worker.member.barrier(soon()), passed);
    worker.member.leave();
  });
}

TEST(Group, a_moved_member_goes_on_and_an_empty_one_is_closed) {
  World world(of(1));
  GroupWorkers workers = joined(world, 1);
  Group::Member moved = std::move(workers[0]->member);
  EXPECT_FALSE(workers[0]->member.is_member());  // NOLINT(bugprone-use-after-move)
  EXPECT_EQ(moved.barrier(at_once), passed);
  Group::Member none;
  EXPECT_EQ(none.barrier(at_once).status, Status::closed);
  EXPECT_EQ(none.rebuild(at_once).status, Status::closed);
  EXPECT_EQ(none.wait(at_once).status, Status::closed);
  EXPECT_EQ(none.test().status, Status::closed);
  none = std::move(moved);
  EXPECT_EQ(none.barrier(at_once), passed);
}

TEST(Group, a_forked_child_has_no_part_in_it) {
  World world(of(2));
  GroupWorkers workers = joined(world, 2);
  GroupWorker& child = *workers[0];
  child.peers.forked();
  EXPECT_EQ(child.member.barrier(at_once).status, Status::closed);
  EXPECT_EQ(child.member.rebuild(at_once).status, Status::closed);
  EXPECT_EQ(child.member.test().status, Status::closed);
  EXPECT_EQ(error_of([&] { child.group.join(at_once); }), Errc::closed);
  child.member.leave();
  EXPECT_EQ(workers[1]->member.barrier(at_once), timeout_for(0)) << "the parent still is a member";
}

TEST(Group, a_damaged_header_is_refused) {
  const auto refuses = [](auto&& damage, std::size_t bytes_less = 0) {
    World world(of(2, 3));
    damage(world);
    test::FakePeers peers(world.table, 0);
    const auto memory = world.memory().first(world.memory().size() - bytes_less);
    Group::repair(memory, world.table.dead_of(peers.self()));  // and does not fall over it
    return error_of([&] { Group(memory, peers); }) == Errc::corrupt;
  };
  EXPECT_FALSE(refuses([](World&) {}));
  EXPECT_TRUE(refuses([](World&) {}, 1));
  EXPECT_TRUE(refuses([](World& world) { world.at<std::uint32_t>(size_at) = 0; }));
  EXPECT_TRUE(refuses([](World& world) { world.at<std::uint32_t>(size_at) = 4; }));
  EXPECT_TRUE(refuses([](World& world) { world.at<std::uint32_t>(places_at) = 4; }));
  EXPECT_TRUE(refuses([](World& world) { world.at<std::uint32_t>(places_at) = 49; }));
  EXPECT_TRUE(refuses([](World& world) { world.at<std::uint32_t>(places_at) = ~0U; }));
  for (const std::uint64_t bytes : {0ULL, 1ULL, 8192ULL, 1ULL << 62, ~0ULL - 4095}) {
    EXPECT_TRUE(refuses([&](World& world) { world.at<std::uint64_t>(exchange_bytes_at) = bytes; }));
  }
}

// Whatever the words say, indices stay within bounds.
TEST(Group, damaged_words_lead_nowhere) {
  for (std::uint64_t seed = 1; seed < 200; ++seed) {
    World world(of(2, 2));
    GroupWorkers workers = joined(world, 2);
    std::uint64_t random = seed * 0x9e3779b97f4a7c15;
    for (int i = 0; i < 6; ++i) {
      random ^= random << 13, random ^= random >> 7, random ^= random << 17;
      const std::size_t word = random % ((place_words_at + 2 * place_stride - state_at) / 8);
      world.at<std::uint64_t>(state_at + word * 8) =
          seed % 2 != 0 ? random : std::uint64_t{1} << 50 << seed % 3 | random >> 16;
    }
    std::array<float, 5> data{};
    for (auto& worker : workers) {
      (void)worker->member.allreduce(std::span<float>(data), Reduction::sum, at_once);
      (void)worker->member.rebuild(at_once);
      (void)worker->member.allreduce(std::span<float>(data), Reduction::sum, at_once);
    }
    GroupWorker third(world, 2);
    (void)error_of([&] { third.join(at_once); });
  }
}

TEST(Group, options_are_checked) {
  const auto refused = [](const Group::Options& options) {
    return error_of([&] { (void)Group::bytes(options); }) == Errc::invalid_argument;
  };
  EXPECT_FALSE(refused({.size = 48}));
  EXPECT_TRUE(refused({.size = 0}));
  EXPECT_TRUE(refused({.size = 49}));
  EXPECT_TRUE(refused({.size = 3, .places = 2}));
  EXPECT_TRUE(refused({.size = 3, .places = 49}));
  EXPECT_TRUE(refused({.size = 3, .exchange_bytes = 0}));
  EXPECT_TRUE(refused({.size = 3, .exchange_bytes = 5000}));
  EXPECT_FALSE(refused({.size = 3, .places = 4, .exchange_bytes = 512}));
  EXPECT_TRUE(refused({.size = 3, .places = 5, .exchange_bytes = 512}))
      << "a rank's part of a cell would be too little";
  EXPECT_FALSE(refused({.size = 3, .places = 48, .exchange_bytes = 4096}));
  EXPECT_TRUE(refused({.size = 1, .exchange_bytes = 448}));
  EXPECT_FALSE(refused({.size = 1, .places = 1, .exchange_bytes = 512}));
}

TEST(Group, says_in_what_it_differs_from_other_options) {
  World world({.size = 3, .places = 6, .exchange_bytes = 8192});
  const auto difference = [&](const Group::Options& options) {
    return Group::difference(world.memory(), options);
  };
  EXPECT_EQ(difference({.size = 3, .places = 6, .exchange_bytes = 8192}), "");
  EXPECT_EQ(difference({.size = 3, .exchange_bytes = 8192}), "") << "what 0 stands for";
  EXPECT_EQ(difference({.size = 2, .places = 6, .exchange_bytes = 8192}), "it has size 3, not 2");
  EXPECT_EQ(difference({.size = 3, .places = 5, .exchange_bytes = 8192}), "it has places 6, not 5");
  EXPECT_EQ(difference({.size = 3, .places = 6, .exchange_bytes = 4096}),
            "it has exchange_bytes 8192, not 4096");
  // Of the same size: the directory sees no difference.
  ASSERT_EQ(Group::bytes({.size = 2, .places = 6, .exchange_bytes = 8192}),
            Group::bytes({.size = 3, .places = 6, .exchange_bytes = 8192}));
  world.at<std::uint32_t>(size_at) = 0;
  EXPECT_EQ(difference({.size = 2}), "");  // attaching tells
}

// The formula of docs/collective.md.
TEST(Group, memory_is_a_header_the_places_and_their_areas) {
  const auto formula = [](std::size_t places, std::size_t exchange) {
    return (128 + 256 * places + 4095) / 4096 * 4096 + places * exchange;
  };
  EXPECT_EQ(Group::bytes({.size = 4}), formula(8, 2 << 20));
  EXPECT_EQ(Group::bytes({.size = 40}), formula(48, 2 << 20));
  EXPECT_EQ(Group::bytes({.size = 1, .places = 1, .exchange_bytes = 4096}), formula(1, 4096));
  EXPECT_EQ(Group::bytes({.size = 2, .places = 15, .exchange_bytes = 8192}), formula(15, 8192));
  EXPECT_EQ(Group::bytes({.size = 2, .places = 16, .exchange_bytes = 8192}), formula(16, 8192));
}

// Epochs count round: what stands in a place since the epoch of that number before.
TEST(Group, an_arrival_of_long_ago_does_not_count) {
  World world(of(2, 3));
  GroupWorkers workers = joined(world, 2);
  for (const std::size_t count : counts_in_place) {
    world.at<std::uint64_t>(place_words_at + 2 * place_stride + count) =
        std::uint64_t{2} << 50 | 1000;
  }
  workers.push_back(std::make_unique<GroupWorker>(world, 2));
  std::thread joins([&] { workers[2]->join(); });
  ASSERT_TRUE(eventually([&] { return is_asked_for(2, world, 2); }));
  EXPECT_EQ(workers[0]->member.rebuild(at_once).status, Status::timeout);
  EXPECT_EQ(workers[1]->member.rebuild(at_once), passed);
  EXPECT_EQ(workers[0]->member.rebuild(at_once), passed);
  joins.join();
  EXPECT_EQ(workers[0]->member.begin({}), passed);
  EXPECT_EQ(workers[1]->member.begin({}), passed);
  EXPECT_EQ(workers[0]->member.wait(at_once), timeout_for(2));
  EXPECT_EQ(workers[2]->member.barrier(at_once), passed);
  EXPECT_EQ(workers[0]->member.wait(at_once), passed);
  EXPECT_EQ(workers[1]->member.wait(at_once), passed);
  // Chunk by chunk, which the third has not filled.
  std::array<std::array<float, 2000>, 3> data{};
  const auto begin = [&](std::size_t i) {
    data[i].fill(1);
    return workers[i]->member.start_allreduce(std::span<float>(data[i]));
  };
  auto of_first = begin(0), of_second = begin(1), of_third = begin(2);
  GroupOutcome outcome;
  do {
    (void)of_third.test();
    (void)of_second.test();
    outcome = of_first.test();
  } while (outcome.status == Status::empty);
  EXPECT_EQ(outcome, passed);
  EXPECT_THAT(data[0], testing::Each(3));
}

// Through all numbers of epochs and beyond.
TEST(Group, epochs_count_round) {
  World world(of(1));
  GroupWorkers workers = joined(world, 1);
  Group::Member& member = workers[0]->member;
  for (int i = 0; i < 40'000; ++i) {
    ASSERT_EQ(member.rebuild(at_once), passed);
    ASSERT_EQ(member.barrier(at_once), passed);
  }
  EXPECT_EQ(member.epoch(), (1 + 40'000) % (1 << 14));
}

}  // namespace
}  // namespace heddle

#include "heddle/sync/collective.hpp"

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "heddle/shm/segment.hpp"
#include "heddle/shm/shared_buffer.hpp"
#include "support/group_world.hpp"

namespace heddle {
namespace {

using test::at_once;
using test::GroupWorker;
using test::GroupWorkers;
using test::joined;
using test::passed;
using test::peer_died;
using test::soon;
using test::timeout_for;
using test::together;
using World = test::GroupWorld;
using namespace std::chrono_literals;

Group::Options of(std::uint32_t size, std::size_t exchange_bytes = page_bytes) {
  return {.size = size, .places = size, .exchange_bytes = exchange_bytes};
}

// Element i of rank `rank` in call `call`: another one everywhere, and small.
template <class T>
T element(std::uint64_t call, std::uint64_t rank, std::uint64_t i) {
  return static_cast<T>(static_cast<float>((call * 31 + rank * 7 + i * 3) % 11));
}
template <class T>
std::vector<T> elements(std::uint64_t call, std::uint64_t rank, std::size_t count) {
  std::vector<T> all(count);
  for (std::size_t i = 0; i < count; ++i) all[i] = element<T>(call, rank, i);
  return all;
}
template <class T>
T sum_of(std::uint64_t call, std::uint32_t size, std::uint64_t i) {
  double sum = 0;
  for (std::uint32_t rank = 0; rank < size; ++rank) {
    sum += static_cast<double>(static_cast<float>(element<T>(call, rank, i)));
  }
  return static_cast<T>(static_cast<float>(sum));
}

// Every collective once, and what each rank must have of it; `call` makes the numbers others.
template <class T>
void all_collectives(Group::Member& member, std::uint64_t call, std::size_t count) {
  const std::uint32_t rank = member.rank();
  const std::uint32_t size = member.size();
  const auto root = static_cast<std::uint32_t>(call % size);
  const auto mine = elements<T>(call, rank, count);
  const T before = static_cast<T>(100.0F);
  const auto is_sum = [&](const std::vector<T>& got, std::size_t from) {
    for (std::size_t i = 0; i < got.size(); ++i) {
      if (got[i] != sum_of<T>(call, size, from + i)) return false;
    }
    return true;
  };
  const auto is_all_parts = [&](const std::vector<T>& got) {
    for (std::size_t i = 0; i < got.size(); ++i) {
      if (got[i] != element<T>(call, i / count, i % count)) return false;
    }
    return true;
  };

  auto reduced = mine;
  EXPECT_EQ(member.allreduce(std::span(reduced), Reduction::sum, soon()), passed);
  EXPECT_TRUE(is_sum(reduced, 0)) << "allreduce";

  std::vector<T> at_root(rank == root ? count : 0, before);
  EXPECT_EQ(
      member.reduce(std::span<const T>(mine), std::span(at_root), root, Reduction::sum, soon()),
      passed);
  EXPECT_TRUE(is_sum(at_root, 0)) << "reduce";

  const auto parts = elements<T>(call, rank, count * size);
  std::vector<T> part(count, before);
  EXPECT_EQ(
      member.reduce_scatter(std::span<const T>(parts), std::span(part), Reduction::sum, soon()),
      passed);
  EXPECT_TRUE(is_sum(part, rank * count)) << "reduce_scatter";

  std::vector<T> all(count * size, before);
  EXPECT_EQ(member.all_gather(std::span<const T>(mine), std::span(all), soon()), passed);
  EXPECT_TRUE(is_all_parts(all)) << "all_gather";

  std::vector<T> in_place(count * size, before);
  std::copy(mine.begin(), mine.end(), in_place.begin() + static_cast<long>(rank * count));
  EXPECT_EQ(member.all_gather(std::span<const T>(in_place).subspan(rank * count, count),
                              std::span(in_place), soon()),
            passed);
  EXPECT_TRUE(is_all_parts(in_place)) << "all_gather in place";

  // Rank r has count / (r + 1) elements.
  const std::size_t own = count / (rank + 1);
  std::size_t sum = 0;
  for (std::uint32_t r = 0; r < size; ++r) sum += count / (r + 1);
  std::vector<T> uneven(sum + 1, before);
  std::vector<std::size_t> counts(size, 77);
  EXPECT_EQ(member.all_gather_v(std::span<const T>(mine).first(own), std::span(uneven),
                                std::span(counts), soon()),
            passed);
  std::size_t at = 0;
  for (std::uint32_t r = 0; r < size; ++r) {
    EXPECT_EQ(counts[r], count / (r + 1));
    for (std::size_t i = 0; i < counts[r]; ++i) {
      if (uneven[at + i] != element<T>(call, r, i)) {
        ADD_FAILURE() << "all_gather_v: element " << i << " of rank " << r;
        break;
      }
    }
    at += counts[r];
  }
  EXPECT_EQ(uneven.back(), before) << "all_gather_v wrote too far";

  std::vector<T> gathered(rank == root ? count * size : 0, before);
  EXPECT_EQ(member.gather(std::span<const T>(mine), std::span(gathered), root, soon()), passed);
  EXPECT_TRUE(is_all_parts(gathered)) << "gather";

  const auto to_scatter = elements<T>(call, root, rank == root ? count * size : 0);
  std::vector<T> scattered(count, before);
  EXPECT_EQ(member.scatter(std::span<const T>(to_scatter), std::span(scattered), root, soon()),
            passed);
  for (std::size_t i = 0; i < count; ++i) {
    ASSERT_EQ(scattered[i], element<T>(call, root, rank * count + i)) << "scatter";
  }

  auto told = rank == root ? mine : std::vector<T>(count, before);
  EXPECT_EQ(member.broadcast(std::span(told), root, soon()), passed);
  EXPECT_EQ(told, elements<T>(call, root, count)) << "broadcast";

  std::vector<T> turned(count * size, before);
  EXPECT_EQ(member.all_to_all(std::span<const T>(parts), std::span(turned), soon()), passed);
  for (std::size_t i = 0; i < turned.size(); ++i) {
    ASSERT_EQ(turned[i], element<T>(call, i / count, rank * count + i % count)) << "all_to_all";
  }
  EXPECT_EQ(member.barrier(soon()), passed);
}

class CollectiveOf : public testing::TestWithParam<std::tuple<std::uint32_t, std::size_t>> {};
INSTANTIATE_TEST_SUITE_P(SizesAndAreas, CollectiveOf,
                         testing::Combine(testing::Values(1U, 2U, 3U, 4U, 5U),
                                          testing::Values(std::size_t{4096}, std::size_t{1} << 20)),
                         [](const auto& tested) {
                           return std::to_string(std::get<0>(tested.param)) + "_by_" +
                                  std::to_string(std::get<1>(tested.param));
                         });

// Areas of a page make many rounds of a call: COLL-2 would show as wrong numbers.
TEST_P(CollectiveOf, every_length_arrives_as_it_should) {  // COLL-1 COLL-2
  const auto [size, exchange_bytes] = GetParam();
  World world(of(size, exchange_bytes));
  GroupWorkers workers = joined(world, size);
  together(workers, [](GroupWorker& worker) {
    std::uint64_t call = 0;
    for (const std::size_t count : {0UL, 1UL, 3UL, 17UL, 511UL, 1023UL, 5003UL, 20'001UL}) {
      all_collectives<float>(worker.member, ++call, count);
    }
    for (const std::size_t count : {1UL, 7UL, 2049UL}) {
      all_collectives<double>(worker.member, ++call, count);
      all_collectives<std::int32_t>(worker.member, ++call, count);
      all_collectives<std::int64_t>(worker.member, ++call, count);
      all_collectives<bfloat16>(worker.member, ++call, count);
      all_collectives<float16>(worker.member, ++call, count);
    }
  });
}

// Small ones one after the other, with ranks that are slow now and then.
TEST(Collective, halves_are_not_filled_before_all_have_drained_them) {  // COLL-2
  World world(of(3));
  GroupWorkers workers = joined(world, 3);
  together(workers, [](GroupWorker& worker) {
    std::mt19937_64 random(worker.member.rank());
    for (std::uint64_t call = 0; call < 3000; ++call) {
      if (random() % 64 == 0) std::this_thread::sleep_for(50us);
      auto mine = elements<std::int32_t>(call, worker.member.rank(), 1 + call % 700);
      ASSERT_EQ(worker.member.allreduce(std::span(mine), Reduction::sum, soon()), passed);
      for (std::size_t i = 0; i < mine.size(); ++i) {
        ASSERT_EQ(mine[i], sum_of<std::int32_t>(call, 3, i)) << "call " << call;
      }
    }
  });
}

// Sums whose last bits depend on the order, staged, striped and in one round.
TEST(Collective, has_the_same_bits_on_every_rank_and_however_it_is_done) {  // COLL-1
  constexpr std::size_t count = 9001;
  constexpr std::uint32_t size = 4;
  const auto numbers = [](std::uint32_t rank) {
    std::mt19937 random(rank);
    std::vector<float> all(count);
    for (float& number : all)
      number = std::ldexp(static_cast<float>(random()), static_cast<int>(random() % 40) - 60);
    return all;
  };
  std::array<std::vector<float>, size> inputs;
  std::vector<float> expected(count);
  for (std::uint32_t rank = 0; rank < size; ++rank) {
    inputs[rank] = numbers(rank);
    for (std::size_t i = 0; i < count; ++i) {
      expected[i] = rank == 0 ? inputs[rank][i] : expected[i] + inputs[rank][i];
    }
  }
  for (const std::size_t exchange_bytes : {std::size_t{4096}, std::size_t{1} << 20}) {
    World world(of(size, exchange_bytes));
    GroupWorkers workers = joined(world, size);
    together(workers, [&](GroupWorker& worker) {
      auto mine = inputs[worker.member.rank()];
      EXPECT_EQ(worker.member.allreduce(std::span(mine), Reduction::sum, soon()), passed);
      EXPECT_EQ(mine, expected);
      auto first = std::span(mine).first(700);
      std::copy_n(inputs[worker.member.rank()].begin(), 700, first.begin());
      EXPECT_EQ(worker.member.allreduce(first, Reduction::sum, soon()), passed);
      EXPECT_TRUE(std::equal(first.begin(), first.end(), expected.begin()));
    });
  }
}

TEST(Collective, several_groups_at_once) {
  World one(of(3)), other(of(3));
  GroupWorkers in_one = joined(one, 3), in_other = joined(other, 3);
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < 3; ++i) {
    threads.emplace_back([&, i] {
      Group::Member& a = in_one[i]->member;
      Group::Member& b = in_other[2 - i]->member;
      for (std::uint64_t call = 0; call < 50; ++call) {
        auto first = elements<float>(call, a.rank(), 3001);
        auto second = elements<float>(call + 1, b.rank(), 2001);
        auto of_a = a.start_allreduce(std::span(first));
        auto of_b = b.start_allreduce(std::span(second));
        EXPECT_EQ(of_b.wait(soon()), passed);
        EXPECT_EQ(of_a.wait(soon()), passed);
        ASSERT_EQ(first[3000], sum_of<float>(call, 3, 3000));
        ASSERT_EQ(second[2000], sum_of<float>(call + 1, 3, 2000));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(Collective, is_started_and_tested) {
  World world(of(2));
  GroupWorkers workers = joined(world, 2);
  Group::Member& a = workers[0]->member;
  Group::Member& b = workers[1]->member;
  EXPECT_EQ(a.test().status, Status::invalid) << "nothing was begun";
  EXPECT_EQ(a.wait(at_once).status, Status::invalid);
  auto mine = elements<double>(1, 0, 2000);  // several rounds
  auto theirs = elements<double>(1, 1, 2000);
  auto started = a.start_allreduce(std::span(mine));
  EXPECT_EQ(started.begun(), passed);
  EXPECT_EQ(started.test(), (GroupOutcome{Status::empty, 1}));
  EXPECT_EQ(started.wait(at_once), timeout_for(1));
  auto of_b = b.start_allreduce(std::span(theirs));
  GroupOutcome ends_a{Status::empty}, ends_b{Status::empty};
  for (int i = 0; i < 1000 && (!ends_a || !ends_b); ++i) {
    if (ends_a.status == Status::empty) ends_a = started.test();
    if (ends_b.status == Status::empty) ends_b = of_b.test();
  }
  EXPECT_EQ(ends_a, passed);
  EXPECT_EQ(ends_b, passed);
  EXPECT_EQ(started.test().status, Status::invalid) << "its end is told once";
  EXPECT_EQ(mine, theirs);
  EXPECT_EQ(mine[1999], sum_of<double>(1, 2, 1999));
}

// One of them came with its data, the other was to be staged.
TEST(Collective, goes_on_in_chunks_after_a_mismatch) {  // COLL-4
  World world(of(2));
  GroupWorkers workers = joined(world, 2);
  together(workers, [](GroupWorker& worker) {
    Group::Member& member = worker.member;
    for (std::uint64_t call = 0; call < 20; ++call) {
      std::vector<float> odd(member.rank() == call % 2 ? 1 : 5000);
      ASSERT_EQ(member.allreduce(std::span(odd), Reduction::sum, soon()).status, Status::mismatch);
      auto mine = elements<float>(call, member.rank(), 5000);
      ASSERT_EQ(member.allreduce(std::span(mine), Reduction::sum, soon()), passed);
      for (std::size_t i = 0; i < mine.size(); ++i) {
        ASSERT_EQ(mine[i], sum_of<float>(call, 2, i)) << "call " << call;
      }
    }
  });
}

// A trainer's buckets: started as they come, waited for in whatever order.
TEST(Collective, several_are_started_and_done_in_order) {
  World world(of(3));
  GroupWorkers workers = joined(world, 3);
  together(workers, [](GroupWorker& worker) {
    Group::Member& member = worker.member;
    for (std::uint64_t call = 0; call < 20; ++call) {
      std::array<std::vector<float>, 4> buckets;
      std::vector<Group::Member::Started> started;
      for (std::uint64_t i = 0; i < 4; ++i) {
        buckets[i] = elements<float>(call + i, member.rank(), 1 + 1500 * i);
        started.push_back(member.start_allreduce(std::span(buckets[i])));
        EXPECT_EQ(started.back().begun(), passed);
      }
      EXPECT_EQ(member.barrier(soon()), passed) << "comes after them";
      for (std::uint64_t i = 4; i-- > 0;) {
        EXPECT_EQ(started[i].wait(at_once), passed) << "so they are over";
        EXPECT_EQ(buckets[i].back(), sum_of<float>(call + i, 3, 1500 * i));
      }
    }
  });
}

TEST(Collective, no_more_than_a_few_are_started_and_an_abandoned_one_is_done_all_the_same) {
  World world(of(2));
  GroupWorkers workers = joined(world, 2);
  Group::Member& a = workers[0]->member;
  Group::Member& b = workers[1]->member;
  std::array<float, 9> mine{}, theirs{};
  {
    std::vector<Group::Member::Started> started;
    for (std::size_t i = 0; i < Group::Member::most_started; ++i) {
      mine[i] = 1;
      started.push_back(a.start_allreduce(std::span(&mine[i], 1)));
      EXPECT_EQ(started.back().begun(), passed);
    }
    auto one_more = a.start_allreduce(std::span(&mine[8], 1));
    EXPECT_EQ(one_more.begun().status, Status::busy);
    EXPECT_EQ(one_more.test().status, Status::busy);
    EXPECT_EQ(one_more.test().status, Status::invalid);
  }
  EXPECT_EQ(a.start_barrier().begun().status, Status::busy) << "they are not over";
  EXPECT_EQ(a.barrier(at_once), timeout_for(1));
  for (std::size_t i = 0; i < Group::Member::most_started; ++i) {
    theirs[i] = 2;
    EXPECT_EQ(b.start_allreduce(std::span(&theirs[i], 1)).begun(), passed);
    EXPECT_EQ(a.test().status, Status::empty);
  }
  EXPECT_EQ(b.begin({}), passed);
  EXPECT_EQ(a.wait(soon()), passed);
  EXPECT_EQ(b.wait(soon()), passed);
  for (std::size_t i = 0; i < Group::Member::most_started; ++i) {
    EXPECT_EQ(mine[i], 3);
    EXPECT_EQ(theirs[i], 3);
  }
  EXPECT_EQ(a.start_barrier().begun(), passed) << "there is room again";
}

TEST(Collective, what_was_started_before_a_death_ends_badly_after_a_rebuild_too) {
  World world(of(2));
  GroupWorkers workers = joined(world, 2);
  Group::Member& a = workers[0]->member;
  auto first = a.start_barrier();
  auto second = a.start_barrier();
  workers[1]->die_and_be_found();
  EXPECT_EQ(second.wait(soon()), peer_died(1));
  EXPECT_EQ(a.start_barrier().begun(), peer_died(1));
  EXPECT_EQ(a.rebuild(soon()), passed);
  EXPECT_EQ(first.wait(at_once), peer_died(1));
  EXPECT_EQ(a.barrier(at_once), passed);
}

// What is under way is the parent's to go on with.
TEST(Collective, a_forked_childs_start_is_closed_and_fills_nothing) {
  World world(of(2));
  GroupWorkers workers = joined(world, 2);
  std::array<std::vector<float>, 2> data{std::vector<float>(2000), std::vector<float>(2000)};
  auto of_first = workers[0]->member.start_allreduce(std::span(data[0]));
  auto of_second = workers[1]->member.start_allreduce(std::span(data[1]));
  const auto& filled = world.at<std::uint64_t>(128 + 64);  // by rank 0: docs/collective.md
  ASSERT_EQ(filled, 0U);
  workers[0]->peers.forked();
  EXPECT_EQ(workers[0]->member.start_barrier().begun().status, Status::closed);
  EXPECT_EQ(of_first.test().status, Status::closed);
  EXPECT_EQ(filled, 0U);
}

// Nobody waits, so nobody else looks.
TEST(Collective, a_death_is_found_by_who_only_tests) {
  World world(of(2));
  GroupWorkers workers = joined(world, 2);
  EXPECT_EQ(workers[0]->member.begin({}), passed);
  workers[1]->die();
  GroupOutcome outcome{Status::empty};
  for (const auto end = std::chrono::steady_clock::now() + 5s;
       outcome.status == Status::empty && std::chrono::steady_clock::now() < end;) {
    outcome = workers[0]->member.test();
  }
  EXPECT_EQ(outcome, peer_died(1));
}

TEST(Collective, a_timeout_names_the_missing_and_the_call_goes_on) {
  World world(of(3));
  GroupWorkers workers = joined(world, 3);
  std::array<std::vector<float>, 3> data;
  for (std::uint32_t rank = 0; rank < 3; ++rank) data[rank] = elements<float>(5, rank, 5000);
  EXPECT_EQ(workers[0]->member.allreduce(std::span(data[0]), Reduction::sum, at_once),
            timeout_for(1));
  EXPECT_EQ(workers[1]->member.allreduce(std::span(data[1]), Reduction::sum, Deadline::after(1ms)),
            timeout_for(2));
  EXPECT_EQ(workers[0]->member.wait(at_once), timeout_for(2));
  EXPECT_EQ(workers[0]->member.barrier(at_once).status, Status::busy);
  EXPECT_EQ(workers[2]->member.begin({.what = Collective::allreduce,
                                      .type = NumberType::float32,
                                      .count = data[2].size(),
                                      .in = data[2].data(),
                                      .out = data[2].data()}),
            passed);
  together(workers, [](GroupWorker& worker) { EXPECT_EQ(worker.member.wait(soon()), passed); });
  for (std::uint32_t rank = 0; rank < 3; ++rank) {
    for (std::size_t i = 0; i < 5000; ++i) ASSERT_EQ(data[rank][i], sum_of<float>(5, 3, i));
  }
}

// Two ranks, what each calls, and what each hears.
struct Mismatch : testing::Test {
  template <class A, class B>
  void differ(A&& a, B&& b, Status of_a = Status::mismatch, Status of_b = Status::mismatch) {
    std::thread other([&] { EXPECT_EQ(b(workers[1]->member), GroupOutcome{of_b}); });
    EXPECT_EQ(a(workers[0]->member), GroupOutcome{of_a});
    other.join();
    // And then it goes on.
    together(workers, [](GroupWorker& worker) {
      auto mine = elements<float>(9, worker.member.rank(), 1500);
      EXPECT_EQ(worker.member.allreduce(std::span(mine), Reduction::sum, soon()), passed);
      EXPECT_EQ(mine[1499], sum_of<float>(9, 2, 1499));
    });
  }

  World world{of(2)};
  GroupWorkers workers = joined(world, 2);
  std::vector<float> few = std::vector<float>(10, 1.0F);
  std::vector<float> many = std::vector<float>(10'000, 2.0F);
  std::vector<std::int32_t> whole = std::vector<std::int32_t>(10);
};

TEST_F(Mismatch, of_anything_is_heard_by_all_and_changes_nothing) {  // COLL-3
  const auto sum_few = [&](Group::Member& m) {
    return m.allreduce(std::span(few), Reduction::sum, soon());
  };
  const auto sum_many = [&](Group::Member& m) {
    return m.allreduce(std::span(many), Reduction::sum, soon());
  };
  differ(sum_few, [&](auto& m) { return m.barrier(soon()); });
  differ(sum_few,
         [&](auto& m) { return m.allreduce(std::span(many).first(10), Reduction::max, soon()); });
  differ(sum_few, [&](auto& m) { return m.allreduce(std::span(whole), Reduction::sum, soon()); });
  differ(sum_few,
         [&](auto& m) { return m.allreduce(std::span(many).first(9), Reduction::sum, soon()); });
  differ(sum_few, sum_many);
  differ(sum_many,
         [&](auto& m) { return m.allreduce(std::span(many).first(9999), Reduction::sum, soon()); });
  differ([&](auto& m) { return m.broadcast(std::span(few), 0, soon()); },
         [&](auto& m) { return m.broadcast(std::span(many).first(10), 1, soon()); });
  EXPECT_EQ(few, std::vector<float>(10, 1.0F));
  EXPECT_EQ(many, std::vector<float>(10'000, 2.0F));
}

TEST_F(Mismatch, of_one_whose_arguments_cannot_work) {
  const auto invalid = [&](auto&& a, auto&& b) { differ(a, b, Status::invalid, Status::mismatch); };
  invalid([&](auto& m) { return m.broadcast(std::span(few), 2, soon()); },
          [&](auto& m) { return m.broadcast(std::span(few), 0, soon()); });
  invalid(
      [&](auto& m) { return m.all_gather(std::span<const float>(few), std::span(many), soon()); },
      [&](auto& m) {
        return m.all_gather(std::span<const float>(few), std::span(many).first(20), soon());
      });
  differ(
      [&](auto& m) { return m.scatter(std::span<const float>(many), std::span(few), 7, soon()); },
      [&](auto& m) { return m.scatter(std::span<const float>(many), std::span(few), 8, soon()); },
      Status::invalid, Status::invalid);
}

// A rank that is refused again and again runs no further ahead of the others than one that is not: it
// would write over what they have yet to read.
TEST_F(Mismatch, of_refused_ones_does_not_run_ahead) {  // COLL-2
  Group::Member& wrong = workers[0]->member;
  Group::Member& right = workers[1]->member;
  EXPECT_EQ(wrong.broadcast(std::span(few), 9, at_once), timeout_for(1));
  EXPECT_EQ(wrong.broadcast(std::span(few), 9, at_once).status, Status::busy);
  EXPECT_EQ(right.broadcast(std::span(few), 0, at_once).status, Status::mismatch);
  EXPECT_EQ(wrong.wait(at_once).status, Status::invalid);
}

TEST(Collective, all_gather_v_into_too_little_room_is_invalid_there_alone) {
  World world(of(3));
  GroupWorkers workers = joined(world, 3);
  together(workers, [](GroupWorker& worker) {
    const std::uint32_t rank = worker.member.rank();
    const auto mine = elements<std::uint16_t>(1, rank, 4000 + rank);
    std::vector<std::uint16_t> all(rank == 1 ? 12'002 : 12'003, 99);
    std::vector<std::size_t> counts(3);
    EXPECT_EQ(worker.member
                  .all_gather_v(std::span<const std::uint16_t>(mine), std::span(all),
                                std::span(counts), soon())
                  .status,
              rank == 1 ? Status::invalid : Status::ready);
    EXPECT_EQ(counts, (std::vector<std::size_t>{4000, 4001, 4002}))
        << "so it knows how much it needs";
    if (rank == 1) {
      EXPECT_EQ(all, std::vector<std::uint16_t>(12'002, 99));
    } else {
      EXPECT_EQ(all[12'002], element<std::uint16_t>(1, 2, 4001));
    }
    EXPECT_EQ(worker.member.barrier(soon()), passed);
  });
}

TEST(Collective, all_gather_v_that_was_waited_for_again_counts_elements) {
  World world(of(2));
  GroupWorkers workers = joined(world, 2);
  const std::array<std::uint64_t, 3> mine{1, 2, 3};
  std::array<std::uint64_t, 6> all{};
  std::array<std::size_t, 2> counts{};
  const auto gather = [&](Group::Member& member, std::span<std::uint64_t> out,
                          std::span<std::size_t> sizes) {
    return member.all_gather_v(std::span<const std::uint64_t>(mine), out, sizes, at_once);
  };
  EXPECT_EQ(gather(workers[0]->member, all, counts), timeout_for(1));
  std::array<std::uint64_t, 6> their_all{};
  std::array<std::size_t, 2> their_counts{};
  EXPECT_EQ(gather(workers[1]->member, their_all, their_counts).status, Status::timeout);
  EXPECT_EQ(workers[0]->member.wait(at_once), passed);
  EXPECT_EQ(workers[1]->member.wait(at_once), passed);
  EXPECT_EQ(counts, (std::array<std::size_t, 2>{3, 3}));
  EXPECT_EQ(all, (std::array<std::uint64_t, 6>{1, 2, 3, 1, 2, 3}));
}

TEST(Collective, survivors_of_a_death_inside_rebuild_and_add_up_the_rest) {
  for (std::uint32_t seed = 0; seed < 30; ++seed) {
    World world(of(4));
    GroupWorkers workers = joined(world, 4);
    together(workers, [&](GroupWorker& worker) {
      const std::uint32_t rank = worker.member.rank();
      auto mine = elements<float>(1, rank, 8000);
      if (rank == 3) {
        auto started = worker.member.start_allreduce(std::span(mine));
        for (std::uint32_t i = 0; i < seed; ++i) (void)started.test();
        return worker.die();
      }
      const GroupOutcome outcome = worker.member.allreduce(std::span(mine), Reduction::sum, soon());
      EXPECT_TRUE(outcome == peer_died(3) || outcome == passed);
      EXPECT_EQ(worker.member.barrier(soon()), peer_died(3));
      EXPECT_EQ(worker.member.rebuild(soon()), passed);
      mine = elements<float>(2, rank, 8000);
      EXPECT_EQ(worker.member.allreduce(std::span(mine), Reduction::sum, soon()), passed);
      for (std::size_t i = 0; i < 8000; ++i) ASSERT_EQ(mine[i], sum_of<float>(2, 3, i));
    });
  }
}

// ---- buffers in a segment -------------------------------------------------------------------------

// Each rank with its own mapping of one segment, as processes have.
class SharedCollective : public testing::TestWithParam<std::uint32_t> {
 protected:
  static constexpr std::size_t count = 50'003;

  // does(member, the shared buffers of this rank: of `count` and of count * size floats)
  template <class Do>
  void each(Do&& does) {
    const std::uint32_t size = GetParam();
    std::vector<std::thread> threads;
    for (std::uint32_t i = 0; i < size; ++i) {
      threads.emplace_back([&, i] {
        Segment own = Segment::adopt(segment.fd());
        auto one = own.open<SharedBuffer<float>>("one" + std::to_string(i), {count});
        auto all = own.open<SharedBuffer<float>>("all" + std::to_string(i), {count * size});
        auto member =
            own.open<Group>("group", {.size = size, .exchange_bytes = 64 << 10}).join(soon());
        does(member, one.span(), all.span());
        EXPECT_EQ(member.barrier(soon()), passed);
      });
    }
    for (std::thread& thread : threads) thread.join();
  }

  Segment segment = Segment::anonymous({.bytes = 16 << 20});
};
INSTANTIATE_TEST_SUITE_P(Sizes, SharedCollective, testing::Values(1U, 2U, 3U, 5U),
                         testing::PrintToStringParamName());

TEST_P(SharedCollective, is_reduced_where_it_lies) {  // COLL-1
  each([](Group::Member& member, std::span<float> mine, std::span<float> /*all*/) {
    const std::uint32_t size = member.size();
    for (std::uint64_t call = 0; call < 5; ++call) {
      // Now and then not from its begin, on one rank; and on some ranks in private memory.
      const std::size_t skip = call == 2 && member.rank() == 0 ? 1 : 0;
      auto copy = elements<float>(call, member.rank(), count - 1);
      std::span<float> data = mine.subspan(skip, count - 1);
      std::copy(copy.begin(), copy.end(), data.begin());
      if (call == 3 && member.rank() != 0) data = copy;
      ASSERT_EQ(member.allreduce(data, Reduction::sum, soon()), passed);
      for (std::size_t i = 0; i + 1 < count; ++i) {
        ASSERT_EQ(data[i], sum_of<float>(call, size, i)) << "call " << call << ", element " << i;
      }
    }
  });
}

TEST_P(SharedCollective, broadcast_and_all_gather) {
  each([](Group::Member& member, std::span<float> one, std::span<float> all) {
    const std::uint32_t rank = member.rank();
    const std::uint32_t root = member.size() - 1;
    const auto mine = elements<float>(1, rank, count);
    std::copy(mine.begin(), mine.end(), one.begin());
    std::copy(mine.begin(), mine.end(), all.begin() + static_cast<long>(rank * count));
    ASSERT_EQ(
        member.all_gather(std::span<const float>(all).subspan(rank * count, count), all, soon()),
        passed);
    for (std::size_t i = 0; i < all.size(); ++i) {
      ASSERT_EQ(all[i], element<float>(1, i / count, i % count));
    }
    // The same from elsewhere: not in place, so not where it lies.
    std::fill(all.begin(), all.end(), 0.0F);
    ASSERT_EQ(member.all_gather(std::span<const float>(one), all, soon()), passed);
    for (std::size_t i = 0; i < all.size(); ++i) {
      ASSERT_EQ(all[i], element<float>(1, i / count, i % count));
    }
    ASSERT_EQ(member.broadcast(one, root, soon()), passed);
    for (std::size_t i = 0; i < count; ++i) ASSERT_EQ(one[i], element<float>(1, root, i));
  });
}

// Reads one buffer and writes another: only in place are they used where they are.
TEST_P(SharedCollective, from_one_shared_buffer_into_another) {
  each([](Group::Member& member, std::span<float> in, std::span<float> all) {
    const auto mine = elements<float>(1, member.rank(), count);
    std::copy(mine.begin(), mine.end(), in.begin());
    const std::span<float> out = all.first(count);
    std::fill(out.begin(), out.end(), -1.0F);
    ASSERT_EQ(member.run({.what = Collective::allreduce,
                          .type = NumberType::float32,
                          .count = count,
                          .in = in.data(),
                          .out = out.data()},
                         soon()),
              passed);
    for (std::size_t i = 0; i < count; ++i) {
      ASSERT_EQ(out[i], sum_of<float>(1, member.size(), i));
      ASSERT_EQ(in[i], mine[i]);
    }
  });
}

TEST_P(SharedCollective, mismatch_changes_nothing) {  // COLL-3
  if (GetParam() == 1) GTEST_SKIP() << "one agrees with itself";
  each([](Group::Member& member, std::span<float> one, std::span<float> /*all*/) {
    std::fill(one.begin(), one.end(), 3.0F);
    EXPECT_EQ(member.allreduce(one.first(count - member.rank()), Reduction::sum, soon()).status,
              Status::mismatch);
    for (const float value : one) ASSERT_EQ(value, 3.0F);
  });
}

}  // namespace
}  // namespace heddle

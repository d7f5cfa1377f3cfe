#include "heddle/sync/barrier.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <new>
#include <numeric>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "support/allocations.hpp"
#include "support/block.hpp"
#include "support/fake_peers.hpp"
#include "support/process.hpp"

namespace heddle {

// NOLINTNEXTLINE(readability-identifier-naming): GoogleTest's name
void PrintTo(const Barrier::Outcome& outcome, std::ostream* out) {
  *out << to_string(outcome.status) << " in epoch " << outcome.epoch << ", died "
       << outcome.died.bits();
}

namespace {

using test::FakePeers;
using test::FakeTable;
using testing::ElementsAre;
using testing::HasSubstr;
using namespace std::chrono_literals;

constexpr Deadline at_once = Deadline::now();
Deadline soon() { return Deadline::after(20s); }  // does not pass in a test that succeeds

// The header and the place words as docs/barrier.md draws them, for tests that damage or read them.
constexpr std::size_t parties_at = 4, on_death_at = 8, used_at = 12, changed_at = 16,
                      outcome_at = 64, near_places_at = 72;

// A barrier and the processes that use it.
struct World {
  explicit World(const Barrier::Options& options)
      : block(Barrier::bytes(options)),
        table([this](const Dead& dead) { Barrier::repair(memory(), dead); }) {
    Barrier::format(memory(), options);
  }
  std::span<std::byte> memory() const { return block.span(); }
  template <class T>
  T& at(std::size_t offset) const {
    return *reinterpret_cast<T*>(memory().data() + offset);
  }

  test::Block block;
  FakeTable table;
};

// A process with one party. It may die: then its party is abandoned as it is.
struct Worker {
  Worker(World& in, std::uint32_t index)
      : world(in), peers(in.table, index), barrier(in.memory(), peers) {}

  Barrier::Party& join() { return party = barrier.join(at_once); }
  void stop() { peers.forked(); }  // the handle of a process that is no more does nothing
  void die() {
    stop();
    world.table.kill(self());
  }
  Owner self() const { return peers.self(); }

  World& world;
  FakePeers peers;
  Barrier barrier;
  Barrier::Party party;
};

// `count` workers, all joined.
std::vector<std::unique_ptr<Worker>> joined(World& world, std::uint32_t count) {
  std::vector<std::unique_ptr<Worker>> workers;
  for (std::uint32_t i = 0; i < count; ++i) {
    workers.push_back(std::make_unique<Worker>(world, i));
    workers.back()->join();
  }
  return workers;
}

std::vector<Owner> missing(const Barrier& barrier) {
  std::array<Owner, 64> owners;
  return {owners.begin(), owners.begin() + static_cast<long>(barrier.missing(owners))};
}

testing::Matcher<Barrier::Outcome> is(Status status, std::uint64_t epoch, Owner died = nobody) {
  return testing::AllOf(testing::Field("status", &Barrier::Outcome::status, status),
                        testing::Field("epoch", &Barrier::Outcome::epoch, epoch),
                        testing::Field("died", &Barrier::Outcome::died, died));
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

// Every claim holds for all layouts: all places on one line, each on its own, and in branches.
class BarrierOf : public testing::TestWithParam<std::uint32_t> {
 protected:
  Barrier::Options of(std::uint32_t parties,
                      Barrier::OnDeath on_death = Barrier::OnDeath::report) const {
    return {parties, GetParam(), on_death};
  }
};
INSTANTIATE_TEST_SUITE_P(Room, BarrierOf, testing::Values(7U, 20U, 40U),
                         testing::PrintToStringParamName());

TEST_P(BarrierOf, first_epoch_opens_when_all_have_joined) {
  World world(of(3));
  auto workers = joined(world, 2);
  EXPECT_EQ(workers[0]->party.arrive(), Status::ready);
  EXPECT_EQ(workers[1]->party.arrive(), Status::ready);
  EXPECT_THAT(workers[0]->party.wait(at_once), is(Status::timeout, 1));
  EXPECT_THAT(missing(workers[0]->barrier), ElementsAre(nobody));
  EXPECT_EQ(workers[0]->barrier.epoch(), 0U);

  Worker last(world, 2);
  last.join();
  EXPECT_EQ(workers[0]->barrier.epoch(), 0U);
  EXPECT_THAT(last.party.wait(at_once), is(Status::ready, 0)) << "it is a member now";
  EXPECT_THAT(workers[0]->party.wait(at_once), is(Status::timeout, 1));
  EXPECT_THAT(last.party.arrive_and_wait(at_once), is(Status::timeout, 1));
  EXPECT_THAT(workers[1]->party.wait(at_once), is(Status::ready, 1));
  EXPECT_THAT(workers[0]->party.wait(at_once), is(Status::ready, 1));
  EXPECT_THAT(last.party.wait(at_once), is(Status::ready, 1));
}

TEST_P(BarrierOf, all_pass_when_the_last_has_arrived) {
  World world(of(3));
  auto workers = joined(world, 3);
  for (std::uint64_t epoch = 1; epoch <= 1000; ++epoch) {
    for (std::size_t i = 0; i < 2; ++i) {
      ASSERT_EQ(workers[(epoch + i) % 3]->party.arrive(), Status::ready);
      ASSERT_THAT(workers[(epoch + i) % 3]->party.wait(at_once), is(Status::timeout, epoch));
    }
    ASSERT_EQ(workers[0]->barrier.epoch(), epoch - 1);
    ASSERT_THAT(workers[(epoch + 2) % 3]->party.arrive_and_wait(at_once), is(Status::ready, epoch));
    for (std::size_t i = 0; i < 2; ++i) {
      ASSERT_THAT(workers[(epoch + i) % 3]->party.wait(at_once), is(Status::ready, epoch));
    }
  }
}

// What each party wrote before an epoch, every party reads after it: plain memory, so that a
// sanitizer sees a missing edge, and counts, so that an early passer is seen without one.
void run_epochs(World& world, std::uint32_t parties, std::uint64_t epochs, WaitStrategy strategy) {
  std::vector<std::array<std::uint64_t, 2>> written(parties);
  std::vector<std::thread> threads;
  for (std::uint32_t i = 0; i < parties; ++i) {
    threads.emplace_back([&, i] {
      Worker worker(world, i);
      worker.join();
      for (std::uint64_t epoch = 1; epoch <= epochs; ++epoch) {
        written[i][epoch % 2] = epoch;
        ASSERT_THAT(worker.party.arrive_and_wait(soon(), strategy), is(Status::ready, epoch));
        for (const auto& of_each : written) ASSERT_EQ(of_each[epoch % 2], epoch);
      }
      worker.stop();  // stays a member, so that the count of epochs is exact
    });
  }
  for (auto& thread : threads) thread.join();
}

TEST_P(BarrierOf, nobody_passes_early) {  // BARRIER-2
  for (const std::uint32_t parties : {2U, 3U, 5U}) {
    World world(of(parties));
    run_epochs(world, parties, 4000, WaitStrategy::adaptive);
  }
}

TEST_P(BarrierOf, nobody_passes_early_whoever_sleeps) {
  World world(of(3));
  run_epochs(world, 3, 1000, WaitStrategy::sleep);
}

// The event word is {count:31, sleepers:1}; whoever wakes adds to the count.
TEST_P(BarrierOf, end_of_an_epoch_wakes_those_that_sleep) {
  World world(of(2));
  auto workers = joined(world, 2);
  const std::atomic_ref event(world.at<std::uint32_t>(changed_at));
  std::thread sleeper([&] {
    EXPECT_THAT(workers[0]->party.arrive_and_wait(soon(), WaitStrategy::sleep),
                is(Status::ready, 1));
  });
  while ((event.load() & 1) == 0) std::this_thread::yield();
  const std::uint32_t count = event.load() >> 1;
  EXPECT_THAT(workers[1]->party.arrive_and_wait(at_once), is(Status::ready, 1));
  EXPECT_EQ(event.load() >> 1, count + 1);
  sleeper.join();

  ASSERT_EQ(workers[0]->party.arrive(), Status::ready);
  event.fetch_and(~1U);  // the sleeper's bit may be left over; recovery wakes whatever it says
  const std::uint32_t after = event.load() >> 1;
  workers[1]->die();
  world.table.recover_if_dead(workers[1]->self());
  EXPECT_EQ(event.load() >> 1, after + 1);
}

TEST_P(BarrierOf, newcomer_arrives_first_at_the_next_epoch) {
  World world(of(2));
  auto workers = joined(world, 2);
  ASSERT_EQ(workers[0]->party.arrive(), Status::ready);

  Worker newcomer(world, 2);
  newcomer.join();
  EXPECT_EQ(newcomer.barrier.members(), 3U);
  EXPECT_THAT(newcomer.party.wait(at_once), is(Status::timeout, 1)) << "not a member yet";
  EXPECT_EQ(newcomer.party.arrive(), Status::ready) << "held back until it is";
  EXPECT_THAT(workers[1]->party.arrive_and_wait(at_once), is(Status::ready, 1));
  EXPECT_THAT(workers[0]->party.wait(at_once), is(Status::ready, 1));

  // A member of epoch 2: the others wait for it.
  ASSERT_EQ(workers[0]->party.arrive(), Status::ready);
  EXPECT_THAT(workers[1]->party.arrive_and_wait(at_once), is(Status::timeout, 2));
  EXPECT_THAT(newcomer.party.wait(at_once), is(Status::ready, 2));
  EXPECT_THAT(workers[0]->party.wait(at_once), is(Status::ready, 2));
}

TEST_P(BarrierOf, leaving_holds_nobody_up) {
  World world(of(3));
  auto workers = joined(world, 3);
  ASSERT_EQ(workers[0]->party.arrive(), Status::ready);
  ASSERT_EQ(workers[1]->party.arrive(), Status::ready);
  workers[2]->party.leave();
  EXPECT_FALSE(workers[2]->party.is_member());
  EXPECT_THAT(workers[2]->party.arrive_and_wait(at_once), is(Status::closed, 0));
  EXPECT_THAT(workers[0]->party.wait(at_once), is(Status::ready, 1));
  EXPECT_THAT(workers[1]->party.wait(at_once), is(Status::ready, 1));

  ASSERT_EQ(workers[0]->party.arrive(), Status::ready);
  workers[1].reset();  // a handle that goes away leaves as well, here after it was told
  EXPECT_THAT(workers[0]->party.wait(at_once), is(Status::ready, 2));
  EXPECT_EQ(workers[0]->barrier.members(), 1U);
  EXPECT_THAT(workers[0]->party.arrive_and_wait(at_once), is(Status::ready, 3)) << "alone";
}

TEST_P(BarrierOf, leaving_with_an_arrival_pending_counts_once) {
  World world(of(2));
  auto workers = joined(world, 2);
  ASSERT_EQ(workers[0]->party.arrive(), Status::ready);
  workers[0]->party.leave();
  EXPECT_THAT(workers[1]->party.arrive_and_wait(at_once), is(Status::ready, 1));
  EXPECT_THAT(workers[1]->party.arrive_and_wait(at_once), is(Status::ready, 2));
}

TEST_P(BarrierOf, moved_handle_is_the_member) {
  World world(of(2));
  auto workers = joined(world, 2);
  const std::uint32_t place = workers[0]->party.place();
  EXPECT_NE(place, workers[1]->party.place());
  Barrier::Party moved = std::move(workers[0]->party);
  EXPECT_EQ(moved.place(), place);
  ASSERT_EQ(moved.arrive(), Status::ready);
  EXPECT_THAT(workers[1]->party.arrive_and_wait(at_once), is(Status::ready, 1));
  EXPECT_THAT(moved.wait(at_once), is(Status::ready, 1));
}

// Every passer of an epoch notes how many had arrived at it. Had one passed early, or without a
// newcomer, then more would have arrived, and passed, in the end.
class Census {
 public:
  static constexpr std::uint64_t most = 1 << 20;

  void arrives(std::uint64_t epoch) { arrived_[epoch].fetch_add(1); }
  // It has left, or died, before the end of `epoch`.
  void gives_up(std::uint64_t epoch) { given_up_[epoch].fetch_add(1); }
  void passes(const Barrier::Outcome& outcome) {
    const std::uint64_t epoch = outcome.epoch;
    ASSERT_LT(epoch, most);
    const std::uint32_t seen = arrived_[epoch].load();
    const std::lock_guard lock(mutex_);
    if (epoch >= passed_.size()) passed_.resize(epoch + 1);
    passed_[epoch].push_back({outcome, seen});
  }
  // All have ended.
  void check() const {
    std::size_t deaths = 0;
    for (std::uint64_t epoch = 1; epoch < passed_.size(); ++epoch) {
      for (const Passage& passage : passed_[epoch]) {
        ASSERT_EQ(passage.arrived, arrived_[epoch].load()) << "passed early, epoch " << epoch;
        ASSERT_EQ(passage.arrived, passed_[epoch].size() + given_up_[epoch].load())
            << "left behind, epoch " << epoch;
        ASSERT_EQ(passage.outcome.status, passed_[epoch][0].outcome.status) << epoch;
        ASSERT_EQ(passage.outcome.died, passed_[epoch][0].outcome.died) << epoch;
      }
      if (!passed_[epoch].empty() && passed_[epoch][0].outcome.died) ++deaths;
    }
    reported = deaths;
  }
  mutable std::size_t reported = 0;

 private:
  struct Passage {
    Barrier::Outcome outcome;
    std::uint32_t arrived;
  };
  using Counts = std::vector<std::atomic<std::uint32_t>>;
  Counts arrived_ = Counts(most), given_up_ = Counts(most);
  std::mutex mutex_;
  std::vector<std::vector<Passage>> passed_;
};

TEST_P(BarrierOf, joins_and_leaves_in_mid_run) {
  World world(of(2));
  Census census;
  std::atomic<int> coming{2};
  std::vector<std::thread> threads;
  const auto round = [&](Barrier::Party& party, std::uint64_t epoch) {
    census.arrives(epoch);
    const Barrier::Outcome outcome = party.arrive_and_wait(soon());
    ASSERT_THAT(outcome, is(Status::ready, epoch));
    census.passes(outcome);
  };
  for (std::uint32_t i = 0; i < 2; ++i) {
    threads.emplace_back([&, i] {
      Worker worker(world, i);
      worker.join();
      std::uint64_t epoch = worker.party.wait(soon()).epoch;  // until it is a member
      while (coming.load() > 0) round(worker.party, ++epoch);
    });
  }
  for (std::uint32_t i = 2; i < 4; ++i) {
    threads.emplace_back([&, i] {
      Worker worker(world, i);
      for (std::uint64_t visit = 0; visit < 1000; ++visit) {
        worker.join();
        std::uint64_t epoch = worker.party.wait(soon()).epoch;
        for (std::uint64_t n = 0; n < visit % 4; ++n) round(worker.party, ++epoch);
        worker.party.leave();
      }
      coming.fetch_sub(1);
    });
  }
  for (auto& thread : threads) thread.join();
  census.check();
}

// One party passes epochs as fast as it can, so they end while newcomers are between their look at
// the outcome and their claim.
TEST_P(BarrierOf, newcomer_is_never_overlooked) {
  constexpr std::uint64_t most = 1 << 23;
  World world(of(1));
  std::vector<std::atomic<std::uint8_t>> arrived(most);
  std::vector<std::uint8_t> seen(most);  // by the one that is always there
  std::atomic<bool> over{false};
  Worker always(world, 0);
  always.join();
  std::thread passing([&] {
    for (std::uint64_t epoch = 1; epoch < most && !over.load(); ++epoch) {
      arrived[epoch].fetch_add(1);
      if (always.party.arrive_and_wait().status != Status::ready) break;
      seen[epoch] = arrived[epoch].load();
    }
    over.store(true);
    always.party.leave();
  });
  std::vector<std::uint64_t> visited;
  for (int visit = 0; visit < 50'000 && !over.load(); ++visit) {
    Worker newcomer(world, 1);
    newcomer.join();
    const std::uint64_t epoch = newcomer.party.wait(soon()).epoch + 1;
    if (epoch < most) arrived[epoch].fetch_add(1);
    ASSERT_THAT(newcomer.party.arrive_and_wait(soon()), is(Status::ready, epoch));
    if (over.load()) break;
    ASSERT_EQ(arrived[epoch].load(), 2);
    visited.push_back(epoch);
  }
  over.store(true);
  passing.join();
  if (!visited.empty()) visited.pop_back();  // the other may have left in it
  for (const std::uint64_t epoch : visited) ASSERT_EQ(seen[epoch], 2) << epoch;
  EXPECT_GT(visited.size(), 100U);
}

TEST_P(BarrierOf, death_before_arrival_is_told_to_every_survivor_in_that_epoch) {  // BARRIER-1
  World world(of(3));
  auto workers = joined(world, 3);
  const Owner dead = workers[2]->self();
  for (auto& worker : workers) ASSERT_EQ(worker->party.arrive(), Status::ready);
  for (auto& worker : workers) ASSERT_THAT(worker->party.wait(at_once), is(Status::ready, 1));

  ASSERT_EQ(workers[0]->party.arrive(), Status::ready);
  ASSERT_EQ(workers[1]->party.arrive(), Status::ready);
  workers[2]->die();
  EXPECT_THAT(workers[0]->party.wait(soon()), is(Status::peer_died, 2, dead)) << "found by waiting";
  EXPECT_THAT(workers[1]->party.wait(at_once), is(Status::peer_died, 2, dead));
  EXPECT_EQ(workers[0]->barrier.members(), 2U);

  // They go on without it.
  ASSERT_EQ(workers[0]->party.arrive(), Status::ready);
  EXPECT_THAT(workers[1]->party.arrive_and_wait(at_once), is(Status::ready, 3));
  EXPECT_THAT(workers[0]->party.wait(at_once), is(Status::ready, 3));
}

TEST_P(BarrierOf, death_is_found_by_those_who_only_poll) {
  World world(of(2));
  auto workers = joined(world, 2);
  for (auto& worker : workers) ASSERT_EQ(worker->party.arrive(), Status::ready);
  for (auto& worker : workers) ASSERT_THAT(worker->party.wait(at_once), is(Status::ready, 1));
  workers[1]->die();
  Barrier::Outcome outcome;
  ASSERT_TRUE(test::eventually([&] {
    outcome = workers[0]->party.arrive_and_wait(at_once);
    return outcome.status != Status::timeout;
  }));
  EXPECT_EQ(outcome.status, Status::peer_died);
}

TEST_P(BarrierOf, death_after_arrival_is_told_in_the_next_epoch) {
  World world(of(3));
  auto workers = joined(world, 3);
  const Owner dead = workers[2]->self();
  ASSERT_EQ(workers[2]->party.arrive(), Status::ready);
  workers[2]->die();
  world.table.recover_if_dead(dead);  // as soon as can be
  ASSERT_EQ(workers[0]->party.arrive(), Status::ready);
  EXPECT_THAT(workers[1]->party.arrive_and_wait(at_once), is(Status::ready, 1));
  EXPECT_THAT(workers[0]->party.wait(at_once), is(Status::ready, 1));

  ASSERT_EQ(workers[0]->party.arrive(), Status::ready);
  EXPECT_THAT(workers[1]->party.arrive_and_wait(at_once), is(Status::peer_died, 2, dead));
  EXPECT_THAT(workers[0]->party.wait(at_once), is(Status::peer_died, 2, dead));
}

// The last one to arrive died before it could end the epoch.
TEST_P(BarrierOf, any_waiter_ends_an_epoch_that_its_last_party_did_not) {
  World world(of(2));
  auto workers = joined(world, 2);
  ASSERT_EQ(workers[0]->party.arrive(), Status::ready);
  workers[1]->die();
  // Its arrival alone: `arrived` is one higher in its word, the owner is the same.
  auto& word = world.at<std::uint64_t>(GetParam() == 7 ? near_places_at + 8 : 128 + 64);
  ASSERT_EQ(word & 0x3ff, workers[1]->self().bits());
  word = (((std::uint64_t{1} << 20) + 1) << 11) | workers[1]->self().bits();
  EXPECT_THAT(workers[0]->party.wait(soon()), is(Status::ready, 1));
}

TEST_P(BarrierOf, recovery_ends_the_epoch_itself) {
  World world(of(2));
  auto workers = joined(world, 2);
  const Owner dead = workers[1]->self();
  ASSERT_EQ(workers[0]->party.arrive(), Status::ready);
  workers[1]->die();
  EXPECT_EQ(workers[0]->barrier.epoch(), 0U);
  world.table.recover_if_dead(dead);  // by somebody who is not in the barrier
  EXPECT_EQ(workers[0]->barrier.epoch(), 1U);
  EXPECT_THAT(workers[0]->party.wait(at_once), is(Status::peer_died, 1, dead));
}

TEST_P(BarrierOf, two_deaths_in_one_epoch_are_one_outcome) {
  World world(of(4));
  auto workers = joined(world, 4);
  workers[1]->die();
  workers[3]->die();
  ASSERT_EQ(workers[0]->party.arrive(), Status::ready);
  const Barrier::Outcome outcome = workers[2]->party.arrive_and_wait(soon());
  EXPECT_EQ(outcome.status, Status::peer_died);
  EXPECT_THAT(outcome.died, testing::AnyOf(workers[1]->self(), workers[3]->self()));
  EXPECT_THAT(workers[0]->party.wait(at_once), is(Status::peer_died, 1, outcome.died));

  ASSERT_EQ(workers[0]->party.arrive(), Status::ready);
  EXPECT_THAT(workers[2]->party.arrive_and_wait(at_once), is(Status::ready, 2));
}

TEST_P(BarrierOf, process_with_two_parties_dies_once) {
  World world(of(3));
  Worker first(world, 0), second(world, 1);
  first.join();
  second.join();
  Barrier::Party other = second.barrier.join(at_once);
  ASSERT_EQ(other.arrive(), Status::ready);  // one of them has arrived, the other has not
  second.die();
  EXPECT_THAT(first.party.arrive_and_wait(soon()), is(Status::peer_died, 1, second.self()));
  EXPECT_THAT(first.party.arrive_and_wait(soon()), is(Status::peer_died, 2, second.self()));
  EXPECT_THAT(first.party.arrive_and_wait(at_once), is(Status::ready, 3));
}

// The survivors are told together: an outcome means that none of them is still at work.
TEST_P(BarrierOf, death_is_told_when_the_living_have_arrived) {
  World world(of(3));
  auto workers = joined(world, 3);
  const Owner dead = workers[2]->self();
  ASSERT_EQ(workers[0]->party.arrive(), Status::ready);
  workers[2]->die();
  EXPECT_THAT(missing(workers[0]->barrier), ElementsAre(workers[1]->self(), dead));
  EXPECT_THAT(workers[0]->party.wait(Deadline::after(20ms)), is(Status::timeout, 1));
  EXPECT_THAT(missing(workers[0]->barrier), ElementsAre(workers[1]->self()));
  EXPECT_THAT(workers[1]->party.arrive_and_wait(at_once), is(Status::peer_died, 1, dead));
  EXPECT_THAT(workers[0]->party.wait(at_once), is(Status::peer_died, 1, dead));
}

// BARRIER-3: epoch 2 fails while one still sleeps in epoch 1, which ended well.
TEST_P(BarrierOf, slow_sleeper_misses_no_outcome) {
  World world(of(3));
  auto workers = joined(world, 3);
  const Owner dead = workers[2]->self();
  for (auto& worker : workers) ASSERT_EQ(worker->party.arrive(), Status::ready);
  ASSERT_THAT(workers[0]->party.wait(at_once), is(Status::ready, 1));
  ASSERT_EQ(workers[0]->party.arrive(), Status::ready);
  workers[2]->die();
  world.table.recover_if_dead(dead);
  EXPECT_THAT(workers[0]->party.wait(Deadline::after(5ms)), is(Status::timeout, 2));

  EXPECT_THAT(workers[1]->party.wait(at_once), is(Status::ready, 1)) << "what it slept for";
  EXPECT_THAT(workers[1]->party.arrive_and_wait(at_once), is(Status::peer_died, 2, dead));
  EXPECT_THAT(workers[0]->party.wait(at_once), is(Status::peer_died, 2, dead));
}

TEST_P(BarrierOf, shrinks_when_told_to) {
  World world(of(3, Barrier::OnDeath::shrink));
  auto workers = joined(world, 3);
  const Owner dead = workers[2]->self();
  workers[2]->die();
  ASSERT_EQ(workers[0]->party.arrive(), Status::ready);
  EXPECT_THAT(workers[1]->party.arrive_and_wait(soon()), is(Status::ready, 1, dead));
  EXPECT_THAT(workers[0]->party.wait(at_once), is(Status::ready, 1, dead));
  ASSERT_EQ(workers[0]->party.arrive(), Status::ready);
  EXPECT_THAT(workers[1]->party.arrive_and_wait(at_once), is(Status::ready, 2));
}

TEST_P(BarrierOf, newcomer_replaces_one_that_died_before_the_first_epoch) {
  World world(of(2));
  Worker dead(world, 0), newcomer(world, 0), other(world, 1);
  dead.join();
  const std::uint32_t place = dead.party.place();
  ASSERT_EQ(dead.party.arrive(), Status::ready);  // held back: nothing of it can be left behind
  dead.die();
  world.table.recover_if_dead(dead.self());
  world.table.rejoin(dead.self());
  newcomer.join();
  EXPECT_EQ(newcomer.party.place(), place);
  EXPECT_EQ(newcomer.party.arrive(), Status::ready);
  EXPECT_THAT(newcomer.party.wait(at_once), is(Status::timeout, 1)) << "the second has not joined";
  other.join();
  EXPECT_THAT(newcomer.party.wait(at_once), is(Status::timeout, 1)) << "nor arrived";
  EXPECT_THAT(other.party.arrive_and_wait(at_once), is(Status::ready, 1));
  EXPECT_THAT(newcomer.party.wait(at_once), is(Status::ready, 1));
}

TEST_P(BarrierOf, joining_finds_those_that_died_before_the_first_epoch) {
  World world(of(2));
  Worker dead(world, 0), newcomer(world, 1);
  dead.join();
  dead.die();
  newcomer.join();  // nobody else has looked
  EXPECT_EQ(newcomer.barrier.members(), 1U);
  EXPECT_THAT(missing(newcomer.barrier), ElementsAre(nobody)) << "one has to come in its stead";
}

TEST_P(BarrierOf, one_that_died_before_the_first_epoch_and_was_not_replaced_is_told_in_it) {
  World world(of(2));
  Worker dead(world, 0), other(world, 1);
  other.join();
  dead.join();
  dead.die();
  EXPECT_THAT(other.party.arrive_and_wait(soon()), is(Status::peer_died, 1, dead.self()));
}

TEST(Barrier, newcomer_gets_the_place_of_the_dead_when_its_epoch_has_ended) {
  World world({2, 2, Barrier::OnDeath::report});
  auto workers = joined(world, 2);
  for (auto& worker : workers) ASSERT_EQ(worker->party.arrive(), Status::ready);
  for (auto& worker : workers) ASSERT_THAT(worker->party.wait(at_once), is(Status::ready, 1));
  Worker newcomer(world, 2);
  std::string message;
  EXPECT_EQ(error_of([&] { newcomer.barrier.join(soon()); }, &message), Errc::too_many);
  EXPECT_THAT(message, HasSubstr("all 2 places"));

  workers[1]->die();
  EXPECT_EQ(error_of([&] { newcomer.barrier.join(Deadline::after(5ms)); }, &message),
            Errc::timeout);
  EXPECT_THAT(message, HasSubstr("epoch"));
  std::thread waiting([&] { newcomer.party = newcomer.barrier.join(soon()); });
  EXPECT_THAT(workers[0]->party.arrive_and_wait(soon()),
              is(Status::peer_died, 2, workers[1]->self()));
  waiting.join();
  EXPECT_EQ(newcomer.party.place(), workers[1]->party.place());

  // It may have come into epoch 3 while that had not begun: then it arrives first at 4.
  ASSERT_EQ(newcomer.party.arrive(), Status::ready);
  EXPECT_THAT(workers[0]->party.arrive_and_wait(at_once), is(Status::ready, 3));
  EXPECT_THAT(workers[0]->party.arrive_and_wait(at_once), is(Status::timeout, 4));
  EXPECT_THAT(newcomer.party.wait(at_once), is(Status::ready, 4));
}

TEST(Barrier, newcomers_find_room_when_all_have_died) {
  World world({2, 2, Barrier::OnDeath::report});
  auto workers = joined(world, 2);
  for (auto& worker : workers) worker->die();
  Worker newcomer(world, 2), other(world, 3);
  newcomer.party = newcomer.barrier.join(soon());
  other.party = other.barrier.join(soon());
  // They came while there was nobody to wait for: the second is a member when the first arrives.
  EXPECT_THAT(newcomer.party.wait(at_once).status, Status::ready);
  ASSERT_EQ(newcomer.party.arrive(), Status::ready);
  const std::uint64_t epoch = other.party.wait(at_once).epoch;
  ASSERT_THAT(newcomer.party.wait(at_once), is(Status::ready, epoch));
  EXPECT_THAT(newcomer.party.arrive_and_wait(at_once), is(Status::timeout, epoch + 1));
  EXPECT_THAT(other.party.arrive_and_wait(at_once), is(Status::ready, epoch + 1));
}

TEST(Barrier, timeout_names_the_missing_and_arriving_later_still_works) {
  World world({3, 0, Barrier::OnDeath::report});
  auto workers = joined(world, 3);
  const Owner second = workers[1]->self(), third = workers[2]->self();
  EXPECT_THAT(workers[0]->party.arrive_and_wait(Deadline::after(1ms)), is(Status::timeout, 1));
  EXPECT_THAT(missing(workers[0]->barrier), ElementsAre(second, third));
  std::array<Owner, 1> one;
  EXPECT_EQ(workers[0]->barrier.missing(one), 2U) << "more than there is room for";
  EXPECT_EQ(one[0], second);

  EXPECT_THAT(workers[0]->party.arrive_and_wait(at_once), is(Status::timeout, 1)) << "not again";
  EXPECT_THAT(workers[1]->party.arrive_and_wait(at_once), is(Status::timeout, 1));
  EXPECT_THAT(missing(workers[0]->barrier), ElementsAre(third));
  EXPECT_THAT(workers[2]->party.arrive_and_wait(at_once), is(Status::ready, 1));
  EXPECT_THAT(workers[0]->party.arrive_and_wait(at_once), is(Status::ready, 1));
  EXPECT_THAT(workers[1]->party.arrive_and_wait(at_once), is(Status::ready, 1));
  EXPECT_THAT(missing(workers[0]->barrier), ElementsAre(workers[0]->self(), second, third));
}

TEST(Barrier, handle_in_a_forked_child_is_closed) {
  World world({2, 0, Barrier::OnDeath::report});
  auto workers = joined(world, 2);
  workers[0]->peers.forked();
  EXPECT_EQ(workers[0]->party.arrive(), Status::closed);
  EXPECT_THAT(workers[0]->party.wait(soon()), is(Status::closed, 0));
  EXPECT_THAT(workers[0]->party.arrive_and_wait(soon()), is(Status::closed, 0));
  EXPECT_EQ(error_of([&] { workers[0]->barrier.join(); }), Errc::closed);
  workers[0].reset();  // does not leave: the parent is still a member
  EXPECT_EQ(workers[1]->barrier.members(), 2U);
  EXPECT_THAT(workers[1]->party.arrive_and_wait(at_once), is(Status::timeout, 1));

  Barrier::Party none;
  EXPECT_THAT(none.arrive_and_wait(soon()), is(Status::closed, 0));
}

// BARRIER-4, for `Dead`: the word that a slow recoverer has read never comes again, whoever has the
// place next, even at the same index of the table of participants.
TEST(Barrier, word_of_a_dead_party_never_comes_again) {
  World world({2, 2, Barrier::OnDeath::report});
  const auto& word = world.at<std::uint64_t>(near_places_at);
  std::set<std::uint64_t> of_the_dead;
  const auto dies = [&](Worker& worker) {
    ASSERT_TRUE(of_the_dead.insert(word).second) << "came again";
    worker.die();
    world.table.recover_if_dead(worker.self());
    ASSERT_TRUE(of_the_dead.insert(word).second);
    world.table.rejoin(worker.self());
  };
  const auto joins = [&](Worker& worker) {
    worker.join();
    ASSERT_EQ(word & 0x7ff, worker.self().bits());
    ASSERT_EQ(of_the_dead.count(word), 0U) << "came again";
  };
  for (int i = 0; i < 5; ++i) {  // before the first epoch
    Worker worker(world, 0);
    joins(worker);
    dies(worker);
  }
  std::optional<Worker> worker(std::in_place, world, 0);
  joins(*worker);
  worker->party.leave();
  joins(*worker);
  Worker other(world, 1);
  other.join();
  for (int i = 0; i < 20; ++i) {
    if (i % 2 == 0) {  // dies after its arrival
      ASSERT_EQ(worker->party.arrive(), Status::ready);
      EXPECT_EQ(of_the_dead.count(word), 0U);
    }
    dies(*worker);
    EXPECT_EQ(other.party.arrive_and_wait(at_once).status,
              i % 2 == 0 ? Status::ready : Status::peer_died);
    if (i % 2 == 0) {
      EXPECT_EQ(other.party.arrive_and_wait(at_once).status, Status::peer_died);
    }
    worker.emplace(world, 0);
    joins(*worker);
    if (i % 3 == 0) {
      worker->party.leave();
      joins(*worker);
    }
    EXPECT_EQ(other.party.arrive_and_wait(at_once).status, Status::ready);  // it is a member now
  }
}

TEST(Barrier, late_recoverer_does_not_touch_a_newcomer) {
  World world({2, 0, Barrier::OnDeath::report});
  Worker dead(world, 0), newcomer(world, 0), other(world, 1);
  dead.join();
  other.join();
  const Dead found = world.table.dead_of(dead.self());
  dead.die();
  EXPECT_THAT(other.party.arrive_and_wait(soon()), is(Status::peer_died, 1, dead.self()));
  world.table.rejoin(dead.self());
  newcomer.join();
  Barrier::repair(world.memory(), found);
  EXPECT_EQ(newcomer.barrier.members(), 2U);
}

TEST(Barrier, options_that_cannot_work_are_refused) {
  for (const Barrier::Options options :
       {Barrier::Options{0, 0, {}}, Barrier::Options{3, 2, {}}, Barrier::Options{2, 2049, {}},
        Barrier::Options{2049, 0, {}}, Barrier::Options{0x80000001, 0, {}}}) {
    std::string message;
    EXPECT_EQ(error_of([&] { Barrier::bytes(options); }, &message), Errc::invalid_argument);
    EXPECT_THAT(message, HasSubstr("2048"));
  }
  EXPECT_EQ(Barrier::bytes({1024, 0, {}}), Barrier::bytes({2, 2048, {}}));
}

TEST(Barrier, says_in_what_it_differs_from_other_options) {
  World world({3, 0, Barrier::OnDeath::report});
  const auto difference = [&](const Barrier::Options& options) {
    return Barrier::difference(world.memory(), options);
  };
  EXPECT_EQ(difference({3, 0, Barrier::OnDeath::report}), "");
  EXPECT_EQ(difference({3, 6, Barrier::OnDeath::report}), "") << "what 0 stands for";
  EXPECT_EQ(difference({4, 6, Barrier::OnDeath::report}), "it has 3 parties, not 4");
  EXPECT_EQ(difference({3, 7, Barrier::OnDeath::report}), "it has 6 max_parties, not 7");
  EXPECT_EQ(difference({3, 6, Barrier::OnDeath::shrink}), "its on_death is report, not shrink");
  // Of the same size, each: the directory sees no difference.
  ASSERT_EQ(Barrier::bytes({4, 7, {}}), Barrier::bytes({3, 6, {}}));
  world.at<std::uint32_t>(on_death_at) = 1;
  EXPECT_EQ(difference({3, 6, Barrier::OnDeath::report}), "its on_death is shrink, not report");
  world.at<std::uint32_t>(parties_at) = 0;
  EXPECT_EQ(difference({3, 6, Barrier::OnDeath::report}), "");  // attaching tells
}

TEST(Barrier, damaged_header_is_refused) {
  const Barrier::Options options{4, 8, Barrier::OnDeath::report};
  const auto refuses = [&](auto&& damage) {
    World world(options);
    damage(world);
    FakePeers peers(world.table, 0);
    Barrier::repair(world.memory(), world.table.dead_of(Owner::at(1)));  // does no harm
    return error_of([&] { Barrier(world.memory(), peers); }) == Errc::corrupt;
  };
  EXPECT_FALSE(refuses([](const World&) {}));
  EXPECT_TRUE(refuses([](const World& world) { world.at<std::uint32_t>(0) = 0; }));
  EXPECT_TRUE(refuses([](const World& world) { world.at<std::uint32_t>(0) = 3; }));
  EXPECT_TRUE(refuses([](const World& world) { world.at<std::uint32_t>(0) = 9; }));
  EXPECT_TRUE(refuses([](const World& world) { world.at<std::uint32_t>(0) = 0xffffffff; }));
  EXPECT_TRUE(refuses([](const World& world) { world.at<std::uint32_t>(parties_at) = 0; }));
  EXPECT_TRUE(refuses([](const World& world) { world.at<std::uint32_t>(parties_at) = 9; }));
  EXPECT_TRUE(refuses([](const World& world) { world.at<std::uint32_t>(on_death_at) = 2; }));
  EXPECT_TRUE(refuses([](const World& world) { world.at<std::uint64_t>(outcome_at) = 0; }));
  World world(options);
  FakePeers peers(world.table, 0);
  EXPECT_EQ(error_of([&] { Barrier(world.memory().first(64), peers); }), Errc::corrupt);
  EXPECT_EQ(error_of([&] { Barrier(world.memory().first(576), peers); }), Errc::corrupt);

  World many({4, 40, Barrier::OnDeath::report});
  const std::size_t branches =
      3;  // of 16 places and of the rest: a line for each, behind the places
  ASSERT_EQ(many.memory().size(), 128 + (40 + branches) * 64);
  EXPECT_EQ(error_of([&] { Barrier(many.memory().first(128 + 42 * 64), peers); }), Errc::corrupt);
}

TEST(Barrier, count_of_places_out_of_range_reads_nothing_outside) {
  for (const std::uint32_t places : {8U, 40U}) {
    for (const std::uint32_t damaged : {0xffffffffU, 0U}) {
      World world({2, places, Barrier::OnDeath::report});
      auto workers = joined(world, 2);
      world.at<std::uint32_t>(used_at) = damaged;
      ASSERT_EQ(workers[0]->party.arrive(), Status::ready);
      EXPECT_THAT(workers[1]->party.arrive_and_wait(at_once).epoch, 1U);
    }
  }
}

// ---- many parties, in branches of sixteen places

// A full barrier. Each process holds as many places, one after the other, as `shares` says.
struct Crowd {
  explicit Crowd(const std::vector<std::uint32_t>& shares)
      : Crowd(shares, std::accumulate(shares.begin(), shares.end(), 0U)) {}
  Crowd(const std::vector<std::uint32_t>& shares, std::uint32_t count)
      : world({count, count, Barrier::OnDeath::report}), places(count) {
    for (const std::uint32_t share : shares) {
      const auto index = static_cast<std::uint32_t>(workers.size());
      workers.push_back(std::make_unique<Worker>(world, index));
      for (std::uint32_t i = 0; i < share; ++i) {
        parties.push_back(workers.back()->barrier.join(at_once));
      }
    }
  }
  void arrive(std::size_t from, std::size_t to) {
    for (std::size_t i = from; i < to; ++i) ASSERT_EQ(parties[i].arrive(), Status::ready);
  }
  // All that are members and have arrived hear this.
  void hear(const testing::Matcher<Barrier::Outcome>& outcome) {
    for (auto& party : parties) {
      if (!party.is_member()) continue;
      EXPECT_THAT(party.wait(at_once), outcome) << party.place();
    }
  }
  std::uint64_t epoch() const { return workers[0]->barrier.epoch(); }

  // {epoch:54, died:10}: behind the places, on a line each.
  std::uint64_t& branch(std::size_t i) const {
    return world.at<std::uint64_t>(128 + (places + i) * 64);
  }
  std::uint64_t summed(std::size_t i) const {
    const std::uint64_t epoch = branch(i) >> 10;
    return epoch == 0 ? 0 : epoch - (1 << 20);
  }
  Owner died(std::size_t i) const { return Owner(branch(i) & 0x3ff); }

  World world;
  std::size_t places;
  std::vector<std::unique_ptr<Worker>> workers;
  std::vector<Barrier::Party> parties;
};

TEST(BarrierOfMany, branch_says_when_nobody_in_it_is_in_the_way) {  // BARRIER-6
  Crowd crowd({40});
  for (std::size_t i = 0; i < 40; ++i) ASSERT_EQ(crowd.parties[i].place(), i);
  for (std::uint64_t epoch = 1; epoch <= 5; ++epoch) {
    crowd.arrive(17, 32);
    EXPECT_EQ(crowd.summed(1), epoch - 1) << "one is missing";
    crowd.arrive(16, 17);
    EXPECT_EQ(crowd.summed(1), epoch) << "its last arrival has written it";
    EXPECT_EQ(crowd.summed(0), epoch - 1);
    crowd.arrive(32, 40);
    EXPECT_EQ(crowd.summed(2), epoch);
    crowd.arrive(0, 15);
    EXPECT_EQ(crowd.epoch(), epoch - 1);
    EXPECT_EQ(crowd.workers[0]->barrier.missing({}), 1U);
    crowd.arrive(15, 16);
    EXPECT_EQ(crowd.epoch(), epoch);
    crowd.hear(is(Status::ready, epoch));
  }
}

// Who arrives looks at the places of a branch whose word is behind, and so needs nobody to write it:
// not one that has died before it could, and not one that is slow and takes it back.
TEST(BarrierOfMany, branch_whose_word_is_behind_keeps_nobody_back) {
  Crowd crowd({40});
  for (std::uint64_t epoch = 1; epoch <= 3; ++epoch) {
    const std::uint64_t before = crowd.branch(1);
    crowd.arrive(0, 39);
    ASSERT_EQ(crowd.summed(1), epoch);
    crowd.branch(1) = before;
    crowd.arrive(39, 40);
    EXPECT_EQ(crowd.epoch(), epoch);
    EXPECT_EQ(crowd.summed(1), epoch);
    crowd.hear(is(Status::ready, epoch));
  }
}

TEST(BarrierOfMany, branch_of_which_all_have_left_is_in_nobodys_way) {
  Crowd crowd({16, 16, 8});
  for (std::size_t i = 16; i < 32; ++i) crowd.parties[i].leave();
  for (std::uint64_t epoch = 1; epoch <= 3; ++epoch) {
    crowd.arrive(32, 40);
    crowd.arrive(0, 16);
    crowd.hear(is(Status::ready, epoch));
  }
}

TEST(BarrierOfMany, death_is_told_by_its_branch) {  // BARRIER-1 BARRIER-6
  Crowd crowd({20, 1, 19});
  const Owner dead = crowd.workers[1]->self();
  crowd.workers[1]->die();
  crowd.arrive(16, 20);
  crowd.arrive(21, 32);
  crowd.world.table.recover_if_dead(dead);
  EXPECT_EQ(crowd.summed(1), 0U) << "it was in the way, and recovery has met another that is";
  crowd.arrive(32, 40);
  EXPECT_EQ(crowd.summed(2), 1U);
  EXPECT_EQ(crowd.died(2), nobody);
  crowd.arrive(0, 15);
  EXPECT_EQ(crowd.epoch(), 0U);
  crowd.arrive(15, 16);
  EXPECT_EQ(crowd.summed(1), 1U);
  EXPECT_EQ(crowd.died(1), dead);
  crowd.parties[20] = {};
  crowd.hear(is(Status::peer_died, 1, dead));

  // They go on without it. And what a branch says of a death is believed.
  crowd.arrive(16, 20);
  crowd.arrive(21, 32);
  EXPECT_EQ(crowd.summed(1), 2U);
  EXPECT_EQ(crowd.died(1), nobody);
  crowd.branch(1) |= dead.bits();
  crowd.arrive(32, 40);
  crowd.arrive(0, 16);
  crowd.hear(is(Status::peer_died, 2, dead));
}

TEST(BarrierOfMany, newcomer_opens_a_branch) {
  World world({16, 40, Barrier::OnDeath::report});
  Worker first(world, 0), second(world, 1);
  std::vector<Barrier::Party> parties;
  for (int i = 0; i < 16; ++i) parties.push_back(first.barrier.join(at_once));
  second.join();
  EXPECT_EQ(second.party.place(), 16U);
  for (auto& party : parties) ASSERT_EQ(party.arrive(), Status::ready);
  EXPECT_THAT(second.party.wait(at_once), is(Status::ready, 1)) << "in which it came";
  for (auto& party : parties) ASSERT_THAT(party.wait(at_once), is(Status::ready, 1));
  for (auto& party : parties) ASSERT_EQ(party.arrive(), Status::ready);
  EXPECT_THAT(parties[0].wait(at_once), is(Status::timeout, 2));
  EXPECT_THAT(second.party.arrive_and_wait(at_once), is(Status::ready, 2));
}

// What each of four threads wrote before an epoch, all read after it, in whichever branch they are.
TEST(BarrierOfMany, nobody_passes_early) {  // BARRIER-2 BARRIER-6
  constexpr std::uint32_t threads = 4, each = 10;
  World world({threads * each, 0, Barrier::OnDeath::report});
  std::vector<std::unique_ptr<Worker>> workers;
  std::array<std::vector<Barrier::Party>, threads> parties;
  for (std::uint32_t i = 0; i < threads; ++i) workers.push_back(std::make_unique<Worker>(world, i));
  for (std::uint32_t n = 0; n < each; ++n) {
    for (std::uint32_t i = 0; i < threads; ++i) {
      parties[i].push_back(workers[i]->barrier.join(at_once));
    }
  }
  std::array<std::array<std::uint64_t, 2>, threads> written{};
  std::vector<std::thread> running;
  for (std::uint32_t i = 0; i < threads; ++i) {
    running.emplace_back([&, i] {
      for (std::uint64_t epoch = 1; epoch <= 300; ++epoch) {
        written[i][epoch % 2] = epoch;
        if (i % 2 == 0) std::reverse(parties[i].begin(), parties[i].end());
        for (auto& party : parties[i]) ASSERT_EQ(party.arrive(), Status::ready);
        for (auto& party : parties[i]) ASSERT_THAT(party.wait(soon()), is(Status::ready, epoch));
        for (const auto& of_each : written) ASSERT_EQ(of_each[epoch % 2], epoch);
      }
    });
  }
  for (auto& thread : running) thread.join();
}

TEST(BarrierOfMany, has_room_for_1024_parties) {
  Crowd crowd({512, 511, 1});
  for (std::uint64_t epoch = 1; epoch <= 3; ++epoch) {
    crowd.arrive(0, 1023);
    EXPECT_EQ(crowd.epoch(), epoch - 1);
    EXPECT_EQ(crowd.workers[0]->barrier.missing({}), 1U);
    crowd.arrive(1023, 1024);
    crowd.hear(is(Status::ready, epoch));
  }
  crowd.arrive(0, 1023);
  crowd.workers[2]->die();
  EXPECT_THAT(crowd.parties[0].wait(soon()), is(Status::peer_died, 4, crowd.workers[2]->self()));
  EXPECT_EQ(crowd.workers[0]->barrier.members(), 1023U);
}

// A thousand that each ask after a thousand would do nothing else: asking is a system call.
TEST(BarrierOfMany, waiter_asks_after_a_few_at_a_time) {
  Crowd crowd(std::vector<std::uint32_t>(40, 1));
  crowd.workers[39]->die();
  crowd.arrive(0, 1);
  const std::uint64_t before = crowd.world.table.asked();
  EXPECT_THAT(crowd.parties[0].wait(at_once), is(Status::timeout, 1));
  EXPECT_EQ(crowd.world.table.asked() - before, 8U);
  crowd.arrive(1, 39);
  EXPECT_THAT(crowd.parties[0].wait(soon()), is(Status::peer_died, 1, crowd.workers[39]->self()))
      << "all the living have arrived, so who is left is asked after";
}

TEST(BarrierOfMany, waiter_asks_after_a_process_once_for_all_its_parties) {
  Crowd crowd({1, 38, 1});
  crowd.arrive(0, 1);
  const std::uint64_t before = crowd.world.table.asked();
  EXPECT_THAT(crowd.parties[0].wait(at_once), is(Status::timeout, 1));
  EXPECT_EQ(crowd.world.table.asked() - before, 2U);
}

// More have died than one look asks after.
TEST(BarrierOfMany, waiter_finds_all_of_the_dead) {
  Crowd crowd(std::vector<std::uint32_t>(40, 1));
  for (std::size_t i = 1; i < 40; ++i) crowd.workers[i]->die();
  EXPECT_EQ(crowd.parties[0].arrive_and_wait(soon()).status, Status::peer_died);
  EXPECT_EQ(crowd.workers[0]->barrier.members(), 1U);
  EXPECT_THAT(crowd.parties[0].arrive_and_wait(at_once), is(Status::ready, 2));
}

TEST(BarrierOfMany, who_would_come_last_asks_after_the_founders) {
  Crowd crowd({1, 38}, 40);
  EXPECT_EQ(crowd.world.table.asked(), 0U);
  crowd.workers[0]->die();
  Worker newcomer(crowd.world, 2);
  newcomer.join();
  EXPECT_EQ(newcomer.party.place(), 0U) << "in the dead one's stead";
  EXPECT_THAT(missing(newcomer.barrier), ElementsAre(nobody)) << "and one more has to come";
}

TEST(Barrier, timeout_says_for_how_long_the_missing_are_waited_for) {
  World world({2, 0, Barrier::OnDeath::report});
  auto workers = joined(world, 2);
  Barrier::Party& party = workers[0]->party;
  for (const Deadline first : {at_once, Deadline::after(1ms)}) {
    EXPECT_EQ(party.waited(), 0ns);
    const std::int64_t before = monotonic_ns();
    EXPECT_EQ(party.arrive_and_wait(first).status, Status::timeout);
    const std::int64_t after = monotonic_ns();
    EXPECT_EQ(party.wait(Deadline::after(2ms)).status, Status::timeout);
    const std::int64_t least = monotonic_ns() - after;
    const std::int64_t waited = party.waited().count();
    EXPECT_GE(waited, least) << "of both waits together";
    EXPECT_LE(waited, monotonic_ns() - before);
    EXPECT_EQ(workers[1]->party.arrive_and_wait(at_once).status, Status::ready);
    EXPECT_EQ(party.wait(at_once).status, Status::ready);
  }
  EXPECT_EQ(party.waited(), 0ns);
  EXPECT_EQ(Barrier::Party().waited(), 0ns);
}

TEST(Barrier, passing_allocates_nothing) {
  if (!test::allocations_are_counted()) GTEST_SKIP() << "this sanitizer has its own operator new";
  World world({2, 0, Barrier::OnDeath::report});
  auto workers = joined(world, 2);
  const long before = test::allocations.load();
  for (int i = 0; i < 10; ++i) {
    (void)workers[0]->party.arrive();
    (void)workers[0]->party.wait(Deadline::after(100us));
    (void)workers[1]->party.arrive_and_wait();
    (void)workers[0]->party.wait();
  }
  workers[1]->peers.forked();
  (void)workers[0]->party.arrive_and_wait(Deadline::after(2ms));
  workers[0]->party.leave();
  EXPECT_EQ(test::allocations.load(), before);
}

// Threads stand for processes that die at any of the places where a party can stop, and newcomers
// come in their stead, at the same index.
TEST_P(BarrierOf, survives_deaths_joins_and_leaves_at_random) {
  World world(of(3));
  Census census;
  std::atomic<int> running{3};
  std::atomic<std::uint64_t> killed{0};
  const auto live = [&](std::uint32_t index, std::uint64_t& random) {  // one process
    Worker worker(world, index);
    worker.party = worker.barrier.join(soon());
    std::uint64_t epoch = worker.party.wait(soon()).epoch;
    for (;;) {
      random = random * 6364136223846793005U + 1442695040888963407U;
      const std::uint64_t fate = random >> 33;
      if (fate % 16 == 0) return worker.die();  // before its arrival
      if (fate % 16 == 1) return worker.party.leave();
      ++epoch;
      census.arrives(epoch);
      ASSERT_EQ(worker.party.arrive(), Status::ready);
      if (fate % 16 == 2) {  // after it
        census.gives_up(epoch);
        return worker.die();
      }
      const Barrier::Outcome outcome = worker.party.wait(soon());
      ASSERT_THAT(outcome.status, testing::AnyOf(Status::ready, Status::peer_died));
      ASSERT_EQ(outcome.epoch, epoch);
      census.passes(outcome);
    }
  };
  std::vector<std::thread> threads;
  for (std::uint32_t i = 0; i < 3; ++i) {
    threads.emplace_back([&, i] {
      std::uint64_t random = i;
      for (int lives = 0; lives < 3000; ++lives) {
        live(i, random);
        const Owner self = Owner::at(i);
        if (world.table.recover_if_dead(
                self)) {  // as a supervisor would, before it starts the next
          killed.fetch_add(1);
          world.table.rejoin(self);
        }
      }
      running.fetch_sub(1);
    });
  }
  for (auto& thread : threads) thread.join();
  census.check();
  EXPECT_GT(killed.load(), 1000U);
  EXPECT_GT(census.reported, 100U);
}

}  // namespace
}  // namespace heddle

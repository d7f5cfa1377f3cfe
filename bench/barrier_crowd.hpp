#pragma once

// Barriers of many parties, by two processes: how the time grows with their number.

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <thread>
#include <vector>

#include "clock.hpp"
#include "harness.hpp"
#include "heddle/base/atomic.hpp"
#include "heddle/shm/segment.hpp"
#include "heddle/sync/barrier.hpp"
#include "histogram.hpp"

namespace heddle::bench {

/// A barrier for two processes that hold all its parties.
class Crowd : public Contender {
 public:
  explicit Crowd(int parties) : parties_(static_cast<std::uint32_t>(parties)) {}

  int processes() const override { return 2; }
  void prepare() override {
    segment_ = Segment::anonymous({.bytes = std::size_t{1} << 20});
    segment_->open<Barrier>("barrier", {.parties = parties_, .max_parties = parties_});
  }

 protected:
  Segment join() const { return Segment::adopt(segment_->fd()); }
  static Deadline deadline() { return Deadline::after(std::chrono::seconds(10)); }
  static void expect(const Barrier::Outcome& outcome, std::uint64_t epoch) {
    if (outcome.status == Status::ready && outcome.epoch == epoch) return;
    throw Failure("an epoch of the barrier did not end well");
  }
  const std::uint32_t parties_;

 private:
  std::optional<Segment> segment_;
};

/// Each party is a thread. One of them times each epoch.
class CrowdOfThreads final : public Crowd {
 public:
  explicit CrowdOfThreads(int parties) : Crowd(parties) {}

  void prepare() override {
    Crowd::prepare();
    shared_.reset();
    shared_->last.store(~std::uint64_t{0}, relaxed);
  }

  void work(Member& member) override {
    Segment segment = join();
    const auto barrier = segment.find<Barrier>("barrier");
    Atomic<std::uint32_t> failed, started;
    failed.store(0, relaxed);
    started.store(0, relaxed);
    const auto party = [&](std::uint32_t number) {
      try {
        Barrier its = barrier;
        Barrier::Party mine = its.join(deadline());
        expect(mine.wait(deadline()), 0);
        while (started.load(acquire("BENCH.start")) == 0) futex_wait(started, 0, 10'000'000);
        run(member, mine, number);
      } catch (const std::exception&) {
        failed.store(1, relaxed);
      }
    };
    std::vector<std::thread> threads;
    for (std::uint32_t i = 0; i < parties_ / 2; ++i) {
      threads.emplace_back(party, 2 * i + static_cast<std::uint32_t>(member.rank()));
    }
    member.start();
    started.store(1, release("BENCH.start"));
    futex_wake(started, all_sleepers);
    for (auto& thread : threads) thread.join();
    member.stop();
    if (failed.load(relaxed) != 0) throw Failure("a party of the barrier failed");
  }

  Sample result() override {
    return {.value = nanoseconds(shared_->epochs.quantile(0.5)), .durations = shared_->epochs};
  }

 private:
  static constexpr std::uint64_t first = 5;  // that counts: until then threads are still waking

  void run(const Member& member, Barrier::Party& mine, std::uint32_t number) {
    const bool timer = number == 0;
    for (std::uint64_t epoch = 1;; ++epoch) {
      shared_->at[number].epoch.store(epoch, relaxed);
      // Before the arrival: all see it who look after the epoch.
      if (timer && member.over() && epoch >= first + 20) shared_->last.store(epoch, relaxed);
      const std::uint64_t before = timer ? ticks_before() : 0;
      expect(mine.arrive_and_wait(deadline()), epoch);
      if (timer && epoch >= first) shared_->epochs.add(before, ticks_after());
      const auto other = static_cast<std::uint32_t>((number + epoch) % parties_);
      if (shared_->at[other].epoch.load(relaxed) < epoch) {
        throw Failure("a party passed before all had come");
      }
      if (epoch >= shared_->last.load(relaxed)) return;
    }
  }

  struct At {
    alignas(64) Atomic<std::uint64_t> epoch;
  };
  struct State {
    std::array<At, 1024> at;
    alignas(64) Atomic<std::uint64_t> last;
    alignas(64) Histogram epochs;
  };
  Shared<State> shared_;
};

/// What an arrival costs where nobody waits for a processor: one process has all parties but one and
/// arrives for each, in the order of their places; the other then arrives last.
class Arrivals final : public Crowd {
 public:
  explicit Arrivals(int parties) : Crowd(parties) {}

  void prepare() override {
    Crowd::prepare();
    shared_.reset();
    shared_->end.store(~std::uint64_t{0}, relaxed);
  }

  void work(Member& member) override {
    Segment segment = join();
    auto barrier = segment.find<Barrier>("barrier");
    const bool last = member.rank() == 1;
    std::vector<Barrier::Party> mine;
    for (std::uint32_t i = 0; i < (last ? 1 : parties_ - 1); ++i) {
      mine.push_back(barrier.join(deadline()));
    }
    member.start();
    for (std::uint64_t epoch = 1; epoch <= shared_->end.load(relaxed); ++epoch) {
      if (last) {
        await(member, epoch);
      } else if (member.over()) {
        shared_->end.store(epoch, relaxed);  // before its arrivals, as above
      }
      const std::uint64_t before = ticks_before();
      for (auto& party : mine) (void)party.arrive();
      (last ? shared_->last : shared_->others).add(before, ticks_after());
      if (!last) shared_->turn.store(epoch, release("BENCH.turn"));
      for (auto& party : mine) expect(party.wait(deadline()), epoch);
    }
    member.stop();
  }

  Sample result() override {
    return {.value = nanoseconds(shared_->others.quantile(0.5)) / (parties_ - 1),
            .durations = {},
            .beside = {{"last", "ns", nanoseconds(shared_->last.quantile(0.5))}}};
  }

 private:
  void await(Member& member, std::uint64_t turn) {
    member.poll_until("the others to arrive",
                      [&] { return shared_->turn.load(acquire("BENCH.turn")) >= turn; });
  }

  struct State {
    alignas(64) Atomic<std::uint64_t> turn;
    Atomic<std::uint64_t> end;
    alignas(64) Histogram others;
    alignas(64) Histogram last;
  };
  Shared<State> shared_;
};

}  // namespace heddle::bench

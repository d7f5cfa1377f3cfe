// One epoch of a barrier, for all its parties. Epochs come in cycles: a block timed as a whole, for
// the median (a reading of the clock costs half of what is measured); a block timed one by one, for
// the tail; and one epoch that is not timed, after which every party looks whether the others are
// where it is.

#include "heddle/sync/barrier.hpp"

#include <fmt/format.h>

#include <array>
#include <cstdint>
#include <optional>

#include "heddle/shm/segment.hpp"
#include "suites.hpp"

namespace heddle::bench {
namespace {

constexpr int block = 64;

template <int parties>
class BarrierContender final : public Contender {
 public:
  int processes() const override { return parties; }

  // A new barrier for each sample: its first epoch waits until all have joined.
  void prepare() override {
    state_.reset();
    segment_ = Segment::anonymous({.bytes = std::size_t{1} << 16});
    segment_->open<Barrier>("barrier", {.parties = parties});
  }

  void work(Member& member) override {
    Segment segment = Segment::adopt(segment_->fd());
    Barrier barrier = segment.find<Barrier>("barrier");
    const Deadline deadline = Deadline::after(std::chrono::seconds(10));
    Barrier::Party party = barrier.join(deadline);
    std::uint64_t epoch = 0;
    const auto pass = [&] {
      const Barrier::Outcome outcome = party.arrive_and_wait(deadline);
      ++epoch;
      if (outcome.status != Status::ready || outcome.epoch != epoch) {
        member.fail(fmt::format("process {} got {} with number {} in epoch {}", member.rank(),
                                to_string(outcome.status), outcome.epoch, epoch));
      }
    };

    const bool timer = member.rank() == 0;
    Atomic<std::uint64_t>& mine = state_->progress[static_cast<std::size_t>(member.rank())].cycles;
    member.start();
    for (int i = 0; i < block; ++i) pass();
    for (std::uint64_t cycle = 1; state_->over.load(relaxed) == 0; ++cycle) {
      const std::uint64_t begin = ticks_before();
      for (int i = 0; i < block; ++i) pass();
      if (timer) state_->blocks.add(begin, ticks_after());

      for (int i = 0; i < block; ++i) {
        const std::uint64_t before = timer ? ticks_before() : 0;
        pass();
        if (timer) state_->durations.add(before, ticks_after());
      }

      // Before the arrival: what is stored here, all see after it.
      if (timer && member.over()) state_->over.store(1, relaxed);
      mine.store(cycle, relaxed);
      pass();
      for (const Progress& other : state_->progress) {
        if (other.cycles.load(relaxed) != cycle) member.fail("a party passed before all had come");
      }
    }
    member.stop();
  }

  Sample result() override {
    return {nanoseconds(state_->blocks.quantile(0.5) / block), state_->durations};
  }

 private:
  struct Progress {
    alignas(64) Atomic<std::uint64_t> cycles;
  };
  struct State {
    std::array<Progress, parties> progress;
    alignas(64) Atomic<std::uint32_t> over;
    alignas(64) Histogram blocks;  // the first party's alone, as the next
    Histogram durations;
  };

  Shared<State> state_;
  std::optional<Segment> segment_;
};

template <int parties>
Entry entry() {
  return {{"barrier", fmt::format("barrier/{}", parties), "heddle", "latency", "ns"},
          [] { return std::make_unique<BarrierContender<parties>>(); }};
}

}  // namespace

std::vector<Entry> barrier_suite() { return {entry<2>(), entry<4>()}; }

}  // namespace heddle::bench

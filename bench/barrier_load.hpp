#pragma once

// Epochs of a barrier, in cycles: a block timed as a whole, for the median (a reading of the clock costs
// half of what is measured); a block timed one by one, for the tail; and one epoch that is not timed,
// after which every party looks whether the others are where it is.

#include <array>
#include <cstdint>

#include "harness.hpp"
#include "heddle/base/atomic.hpp"
#include "histogram.hpp"
#include "ranks.hpp"

namespace heddle::bench {

class BarrierLoad {
 public:
  /// `pass` is one epoch of this rank's.
  template <class Pass>
  void run(const Rank& rank, Pass&& pass) {
    const bool timer = rank.is_first();
    Atomic<std::uint64_t>& mine = progress_[static_cast<std::size_t>(rank.number)].cycles;
    for (int i = 0; i < block; ++i) pass();
    for (std::uint64_t cycle = 1; over_.load(relaxed) == 0; ++cycle) {
      const std::uint64_t begin = ticks_before();
      for (int i = 0; i < block; ++i) pass();
      if (timer) blocks_.add(begin, ticks_after());

      for (int i = 0; i < block; ++i) {
        const std::uint64_t before = timer ? ticks_before() : 0;
        pass();
        if (timer) durations_.add(before, ticks_after());
      }

      // Before the arrival: what is stored here, all see after it.
      if (timer && rank.over()) over_.store(1, relaxed);
      mine.store(cycle, relaxed);
      pass();
      for (int other = 0; other < rank.of; ++other) {
        if (progress_[static_cast<std::size_t>(other)].cycles.load(relaxed) != cycle) {
          throw Failure("a party passed before all had come");
        }
      }
    }
  }

  Sample result() const {
    return {.value = nanoseconds(blocks_.quantile(0.5) / block), .durations = durations_};
  }

 private:
  static constexpr int block = 64;

  struct Progress {
    alignas(64) Atomic<std::uint64_t> cycles;
  };
  std::array<Progress, most_ranks> progress_;
  alignas(64) Atomic<std::uint32_t> over_;
  alignas(64) Histogram blocks_;  // the first rank's alone, as the next
  Histogram durations_;
};

}  // namespace heddle::bench

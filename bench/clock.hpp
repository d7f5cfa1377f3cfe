#pragma once

// Ticks: the processor's time stamp counter where the kernel itself keeps time with it (then it is
// the same on all cores and in all processes), else CLOCK_MONOTONIC. It is read in some 20 ns, the
// system's clock in 30, where a line of memory takes 50 to cross. It may move in steps: of 26 ticks,
// 10 ns, on the machine that this was written on.

#include <chrono>
#include <cstdint>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#include "heddle/base/atomic.hpp"

namespace heddle::bench {

struct TickClock {
  bool is_tsc = false;
  double ns_per_tick = 1;
  std::uint64_t step = 1;  ///< all readings are multiples of this
};
inline TickClock tick_clock;

/// Call once, before processes are made: they inherit it.
void calibrate_ticks();

/// The moment before some work: it is taken before any store of the work can be seen by others.
inline std::uint64_t ticks_before() noexcept {
#if defined(__x86_64__)
  if (tick_clock.is_tsc) return __rdtsc();
#endif
  return static_cast<std::uint64_t>(monotonic_ns());
}

/// The moment after some work: all loads of the work are done (rdtscp waits for them).
inline std::uint64_t ticks_after() noexcept {
#if defined(__x86_64__)
  unsigned core;
  if (tick_clock.is_tsc) return __rdtscp(&core);
#endif
  return static_cast<std::uint64_t>(monotonic_ns());
}

inline double nanoseconds(double ticks) noexcept { return ticks * tick_clock.ns_per_tick; }

inline std::uint64_t ticks_in(std::chrono::nanoseconds time) noexcept {
  return static_cast<std::uint64_t>(static_cast<double>(time.count()) / tick_clock.ns_per_tick);
}

}  // namespace heddle::bench

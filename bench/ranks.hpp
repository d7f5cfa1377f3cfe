#pragma once

// Ranks: the processes that take part in one sample of a barrier or a collective, whoever has made them:
// members of a team (Heddle's), or programs of a peer's launcher (peers/). What one writes here the
// others see: it lies in memory that all of them share with the benchmark.

#include <cstddef>
#include <cstdint>
#include <string>

#include "clock.hpp"
#include "heddle/base/atomic.hpp"
#include "team.hpp"

namespace heddle::bench {

inline constexpr int most_ranks = 16;

/// One rank, to itself.
struct Rank {
  int number;
  int of;
  std::uint64_t end;  ///< ticks: when the sample is long enough

  bool is_first() const { return number == 0; }
  bool over() const { return ticks_before() >= end; }

  /// Spins; where ranks share a processor it is given to the others soon.
  template <class Ready>
  void wait_until(const char* what, Ready&& ready) const {
    constexpr std::int64_t ten_seconds = 10'000'000'000;
    const unsigned patience = static_cast<std::size_t>(of) > processors().size() ? 16 : 1024;
    std::int64_t deadline = 0;
    for (unsigned spins = 1; !ready(); ++spins) {
      pause();
      if (spins % patience != 0) continue;
      const std::int64_t now = monotonic_ns();
      if (deadline == 0) deadline = now + ten_seconds;
      if (now > deadline) {
        throw Failure("rank " + std::to_string(number) + " waited 10 s for " + what);
      }
      yield();
    }
  }
};

/// A team's member as one: after start().
inline Rank rank_of(const Member& member) {
  return {member.rank(), member.size(), ticks_before() + ticks_in(member.length())};
}

}  // namespace heddle::bench

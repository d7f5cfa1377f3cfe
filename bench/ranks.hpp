#pragma once

// Ranks: the processes that take part in one sample of a barrier or a collective, whoever has made them:
// members of a team (Heddle's), or programs of a peer's launcher (peers/). What one writes here the
// others see: it lies in memory that all of them share with the benchmark.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
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

/// Memory of a rank's own, aligned to pages as that of the OSU micro-benchmarks; all of it is there.
template <class T>
class Pages {
 public:
  explicit Pages(std::size_t count = 0)
      : count_(count), memory_(std::aligned_alloc(page, (count * sizeof(T) / page + 1) * page)) {
    if (memory_ == nullptr) throw Failure("no memory for a rank's buffer");
    std::memset(memory_.get(), 0, count * sizeof(T));
  }
  std::span<T> span() const { return {static_cast<T*>(memory_.get()), count_}; }

 private:
  static constexpr std::size_t page = 4096;
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  std::size_t count_;
  std::unique_ptr<void, Free> memory_;
};

/// From which all ranks start at the same moment.
class StartLine {
 public:
  void pass(const Rank& rank) {
    const std::uint32_t turn = turn_.load(acquire("BENCH.line"));
    const std::uint32_t came = came_.fetch_add(1, acq_rel("BENCH.line_up")) + 1;
    if (came == static_cast<std::uint32_t>(rank.of)) {
      came_.store(0, relaxed);
      turn_.store(turn + 1, release("BENCH.line"));
    } else {
      rank.wait_until("the others to line up",
                      [&] { return turn_.load(acquire("BENCH.line")) != turn; });
    }
  }

 private:
  alignas(64) Atomic<std::uint32_t> came_;
  alignas(64) Atomic<std::uint32_t> turn_;
};

}  // namespace heddle::bench

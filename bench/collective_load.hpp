#pragma once

// Calls of one collective on one size, as every rank of every implementation does them. In cycles: fill
// the buffer; line up; a call, or some, timed; the same again; look at every element. All are in place.
//
// There are several calls between two fillings. An allreduce of N ranks in place makes the sum, then N
// times the sum, then N² times ...: N is a power of two, so that a float holds each of them exactly, in
// whatever order an implementation adds.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "harness.hpp"
#include "heddle/base/atomic.hpp"
#include "histogram.hpp"
#include "ranks.hpp"

namespace heddle::bench {

enum class Operation : std::uint32_t { barrier, allreduce, broadcast, all_gather };

/// Calls between two fillings.
struct Calls {
  int count;
  bool timed_together;  ///< where one is short; each of them gets its part
};

/// The same in each rank's cycles, whatever is called.
class CallLoad {
 public:
  /// Each of the three does this rank's part. `call` alone is timed; `check` throws.
  template <class Fill, class Call, class Check>
  void run(const Rank& rank, Calls calls, Fill&& fill, Call&& call, Check&& check) {
    Histogram& mine = durations_[static_cast<std::size_t>(rank.number)];
    const int together = calls.timed_together ? calls.count : 1;
    line_.pass(rank);
    call();  // the first one maps pages and makes connections
    line_.pass(rank);
    for (std::uint32_t cycle = 1; over_.load(relaxed) == 0; ++cycle) {
      fill(cycle);
      for (int done = 0; done < calls.count; done += together) {
        line_.pass(rank);
        const std::uint64_t begin = ticks_before();
        for (int i = 0; i < together; ++i) call();
        const std::uint64_t end = ticks_after();
        mine.add(0, (end - begin) / static_cast<std::uint64_t>(together));
      }
      check(cycle);
      if (rank.is_first() && rank.over()) over_.store(1, relaxed);
      line_.pass(rank);
    }
  }

  /// The slowest rank's median stands for the sample; all durations make the tail.
  Sample result(int ranks) const {
    Histogram all;
    OverRanks over{.avg = 0, .min = nanoseconds(durations_[0].quantile(0.5)), .max = 0};
    for (int rank = 0; rank < ranks; ++rank) {
      const Histogram& its = durations_[static_cast<std::size_t>(rank)];
      const double median = nanoseconds(its.quantile(0.5));
      over.avg += median / ranks;
      over.min = std::min(over.min, median);
      over.max = std::max(over.max, median);
      all.merge(its);
    }
    return {.value = over.max, .durations = all, .ranks = over};
  }

 private:
  StartLine line_;
  alignas(64) Atomic<std::uint32_t> over_;
  alignas(64) std::array<Histogram, most_ranks> durations_;
};

/// What the ranks bring to a call, and what it must make of it.
class Exchange {
 public:
  Exchange(Operation operation, const Rank& rank, std::span<float> buffer)
      : operation_(operation), rank_(rank), buffer_(buffer) {}

  Calls calls() const {
    if (buffer_.size_bytes() > (1U << 20U)) return {.count = 4, .timed_together = false};
    // A rank may be done with a broadcast before the others: nobody may run ahead.
    if (operation_ != Operation::allreduce) return {.count = 1, .timed_together = false};
    return {.count = buffer_.size_bytes() > (1U << 16U) ? 4 : 32, .timed_together = true};
  }

  void fill(std::uint32_t cycle) const {
    const bool reduces = operation_ == Operation::allreduce;
    if (!reduces) std::ranges::fill(buffer_, -1.0F);
    const std::span<float> own = operation_ == Operation::all_gather ? part(rank_.number) : buffer_;
    if (operation_ == Operation::broadcast && !rank_.is_first()) return;
    const float scale = reduces ? tiny : 1;
    for (std::size_t i = 0; i < own.size(); ++i) own[i] = value(rank_.number, cycle, i) * scale;
  }

  /// Against what all ranks have filled in, one rank after the other.
  void check(std::uint32_t cycle) const {
    std::size_t wrong = 0;
    const auto compare = [&](std::span<const float> got, auto&& expected) {
      for (std::size_t i = 0; i < got.size(); ++i) wrong += got[i] == expected(i) ? 0 : 1;
    };
    if (operation_ == Operation::allreduce) {
      float factor = tiny;
      for (int i = 1; i < calls().count; ++i) factor *= static_cast<float>(rank_.of);
      compare(buffer_, [&](std::size_t i) {
        float sum = 0;
        for (int q = 0; q < rank_.of; ++q) sum += value(q, cycle, i);
        return sum * factor;
      });
    } else if (operation_ == Operation::broadcast) {
      compare(buffer_, [&](std::size_t i) { return value(0, cycle, i); });
    } else {
      for (int q = 0; q < rank_.of; ++q) {
        compare(part(q), [&](std::size_t i) { return value(q, cycle, i); });
      }
    }
    if (wrong == 0) return;
    throw Failure("rank " + std::to_string(rank_.number) + ": " + std::to_string(wrong) + " of " +
                  std::to_string(buffer_.size()) + " elements are wrong");
  }

 private:
  static constexpr float tiny = 0x1p-100F;

  static float value(int rank, std::uint32_t cycle, std::size_t i) {
    const auto own = static_cast<std::uint32_t>(rank) * 40'503U;
    const std::uint32_t mixed = (static_cast<std::uint32_t>(i) + own + cycle) * 2'654'435'761U;
    return static_cast<float>(static_cast<int>(mixed >> 16U));
  }
  std::span<float> part(int rank) const {
    const std::size_t size = buffer_.size() / static_cast<std::size_t>(rank_.of);
    return buffer_.subspan(static_cast<std::size_t>(rank) * size, size);
  }

  Operation operation_;
  Rank rank_;
  std::span<float> buffer_;
};

/// `ranks` has allreduce(span), broadcast(span) from rank 0, and all_gather(span) of parts in place.
template <class Communicator>
void run_collective(CallLoad& load, const Rank& rank, Operation operation, std::span<float> buffer,
                    Communicator& ranks) {
  const Exchange exchange(operation, rank, buffer);
  load.run(
      rank, exchange.calls(), [&](std::uint32_t cycle) { exchange.fill(cycle); },
      [&] {
        if (operation == Operation::allreduce) ranks.allreduce(buffer);
        if (operation == Operation::broadcast) ranks.broadcast(buffer);
        if (operation == Operation::all_gather) ranks.all_gather(buffer);
      },
      [&](std::uint32_t cycle) { exchange.check(cycle); });
}

}  // namespace heddle::bench

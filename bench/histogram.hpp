#pragma once

// Millions of durations in 32 KiB, at most 0.8 % off: exact up to 256 ticks, then 128 steps for
// each doubling. A plain struct, so that it can live in memory that processes share.

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "clock.hpp"

namespace heddle::bench {

class Histogram {
 public:
  /// `to` may be earlier than `from` by the clocks' disagreement: that is no time at all.
  void add(std::uint64_t from, std::uint64_t to) noexcept {
    const std::uint64_t duration = to > from ? to - from : 0;
    ++buckets_[bucket(duration)];
    ++count_;
    max_ = std::max(max_, duration);
  }

  void merge(const Histogram& other) noexcept {
    for (std::size_t i = 0; i < buckets_.size(); ++i) buckets_[i] += other.buckets_[i];
    count_ += other.count_;
    max_ = std::max(max_, other.max_);
  }

  std::uint64_t count() const noexcept { return count_; }
  std::uint64_t max() const noexcept { return max_; }

  /// The duration that a part `q` of all do not exceed. Within a step it is where that part of the
  /// step's own durations lies, as in a grouped median: else every median of a clock that moves in
  /// steps of 10 ns would be 60 or 70.
  double quantile(double q) const noexcept {
    const double wanted = q * static_cast<double>(count_);
    double seen = 0;
    for (std::size_t i = 0; i < buckets_.size(); ++i) {
      const auto here = static_cast<double>(buckets_[i]);
      if (here > 0 && seen + here >= wanted) {
        const Range range = range_of(i);
        const double width = std::max(range.width, static_cast<double>(tick_clock.step));
        const double value = range.middle + width * ((wanted - seen) / here - 0.5);
        return std::clamp(value, 0.0, static_cast<double>(max_));
      }
      seen += here;
    }
    return static_cast<double>(max_);
  }

 private:
  static constexpr std::uint64_t exact = 256;
  static constexpr std::uint64_t steps = exact / 2;
  static constexpr std::uint64_t doublings = 30;  // to 2^38 ticks, a minute
  static constexpr std::size_t size = exact + doublings * steps;

  static std::size_t bucket(std::uint64_t duration) noexcept {
    if (duration < exact) return duration;
    const auto doubling = static_cast<std::uint64_t>(std::bit_width(duration / exact));
    const std::uint64_t at = exact + (doubling - 1) * steps + (duration >> doubling) - steps;
    return std::min<std::size_t>(at, size - 1);
  }

  struct Range {
    double middle;
    double width;
  };
  static Range range_of(std::size_t at) noexcept {
    if (at < exact) return {static_cast<double>(at), 1};
    const std::uint64_t doubling = (at - exact) / steps + 1;
    const auto low = static_cast<double>(((at - exact) % steps + steps) << doubling);
    const auto width = static_cast<double>(std::uint64_t{1} << doubling);
    return {low + width / 2, width};
  }

  std::array<std::uint64_t, size> buckets_{};
  std::uint64_t count_ = 0;
  std::uint64_t max_ = 0;
};

}  // namespace heddle::bench

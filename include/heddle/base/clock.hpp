#pragma once

#include <chrono>
#include <cstdint>
#include <limits>

#include "heddle/base/atomic.hpp"

namespace heddle {

/// When a call stops waiting: a moment on CLOCK_MONOTONIC, in nanoseconds.
class Deadline {
 public:
  static constexpr Deadline never() noexcept {
    return Deadline(std::numeric_limits<std::int64_t>::max());
  }
  /// Already over: look once, do not wait.
  static constexpr Deadline now() noexcept { return Deadline(0); }
  static Deadline after(std::chrono::nanoseconds time) noexcept {
    const std::int64_t start = monotonic_ns();
    const std::int64_t longest = std::numeric_limits<std::int64_t>::max() - start;
    return Deadline(time.count() < longest ? start + time.count() : longest + start);
  }

  bool is_now() const noexcept { return at_ <= 0; }
  bool is_never() const noexcept { return at_ == std::numeric_limits<std::int64_t>::max(); }
  /// Nanoseconds left at `now`; zero or less when over.
  std::int64_t left(std::int64_t now) const noexcept { return is_never() ? at_ : at_ - now; }

 private:
  constexpr explicit Deadline(std::int64_t at) noexcept : at_(at) {}
  std::int64_t at_;
};

}  // namespace heddle

#pragma once

// The explorer's machine: what base/atomic.hpp offers, on fibers and weak memory. A program built
// with -DHEDDLE_MACHINE='"model/machine.hpp"' has this under the real headers of Heddle.
//
// Same names, same layout. Every operation is a call of the explorer (explorer.cpp), which may run
// another process first, may choose an older store for a load to read, or may let the process die.
// An Order keeps its tag, so that a run can weaken one edge by name.

#include <climits>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace heddle {

namespace model {

enum class Strength : std::uint8_t { relaxed, acquire, release, acq_rel, seq_cst };
enum class Change : std::uint8_t { exchange, add, bit_or };

}  // namespace model

struct Order {
  model::Strength strength;
  const char* tag;
};

inline constexpr Order relaxed{model::Strength::relaxed, nullptr};
inline constexpr Order owned{model::Strength::relaxed, "owned"};  // earlier stores happen before it
constexpr Order acquire(const char* tag) { return {model::Strength::acquire, tag}; }
constexpr Order release(const char* tag) { return {model::Strength::release, tag}; }
constexpr Order acq_rel(const char* tag) { return {model::Strength::acq_rel, tag}; }
constexpr Order seq_cst(const char* tag) { return {model::Strength::seq_cst, tag}; }

namespace model::machine {

std::uint64_t load(const void* at, std::size_t bytes, Order order) noexcept;
void store(void* at, std::size_t bytes, std::uint64_t value, Order order) noexcept;
std::uint64_t change(void* at, std::size_t bytes, Change change, std::uint64_t value,
                     Order order) noexcept;
bool compare_exchange(void* at, std::size_t bytes, std::uint64_t& expected, std::uint64_t desired,
                      Order order) noexcept;
void fence(Order order) noexcept;
void futex_wait(void* at, std::uint32_t expected, std::int64_t nanoseconds) noexcept;
int futex_wake(void* at, int count) noexcept;
void pause() noexcept;
std::int64_t now() noexcept;
void advance_time(std::int64_t nanoseconds) noexcept;

/// Plain accesses, which the explorer is told of, as it is not of memcpy's.
inline void copy(void* to, const void* from, std::size_t bytes) noexcept {
  const auto each = [=]<class T>(T) {
    for (std::size_t i = 0; i < bytes / sizeof(T); ++i) {
      static_cast<volatile T*>(to)[i] = static_cast<const volatile T*>(from)[i];
    }
  };
  const auto ends = reinterpret_cast<std::uintptr_t>(to) | reinterpret_cast<std::uintptr_t>(from);
  (ends | bytes) % 8 == 0 ? each(std::uint64_t{}) : each(std::uint8_t{});
}

}  // namespace model::machine

template <class T>
class Atomic {
  static_assert(std::is_unsigned_v<T> && (sizeof(T) == 4 || sizeof(T) == 8));

 public:
  Atomic() = default;
  Atomic(const Atomic&) = delete;
  Atomic& operator=(const Atomic&) = delete;

  T load(Order order) const noexcept {
    return static_cast<T>(model::machine::load(&value_, sizeof(T), order));
  }
  void store(T value, Order order) noexcept {
    model::machine::store(&value_, sizeof(T), value, order);
  }
  T exchange(T value, Order order) noexcept {
    return change(model::Change::exchange, value, order);
  }
  T fetch_add(T value, Order order) noexcept { return change(model::Change::add, value, order); }
  T fetch_or(T value, Order order) noexcept { return change(model::Change::bit_or, value, order); }
  bool compare_exchange(T& expected, T desired, Order order) noexcept {
    std::uint64_t wide = expected;
    const bool done = model::machine::compare_exchange(&value_, sizeof(T), wide, desired, order);
    if (!done) expected = static_cast<T>(wide);
    return done;
  }

 private:
  T change(model::Change kind, T value, Order order) noexcept {
    return static_cast<T>(model::machine::change(&value_, sizeof(T), kind, value, order));
  }

  alignas(sizeof(T)) T value_;
};

inline void fence(Order order) noexcept { model::machine::fence(order); }
inline void fence_after_rmw(Order order) noexcept { model::machine::fence(order); }

inline void futex_wait(Atomic<std::uint32_t>& word, std::uint32_t expected,
                       std::int64_t nanoseconds) noexcept {
  model::machine::futex_wait(&word, expected, nanoseconds);
}
inline int futex_wake(Atomic<std::uint32_t>& word, int count) noexcept {
  return model::machine::futex_wake(&word, count);
}
inline constexpr int all_sleepers = INT_MAX;

inline void pause() noexcept { model::machine::pause(); }
/// Virtual time goes fast here, so that "yield for a while, then sleep" comes to its sleep.
inline void yield() noexcept {
  model::machine::advance_time(50'000);
  model::machine::pause();
}
inline std::int64_t monotonic_ns() noexcept { return model::machine::now(); }

}  // namespace heddle

#pragma once

// The seam between a mechanism and the machine: atomics, fences, futex, pause, yield and time.
//
// Mechanisms touch memory that others share, and sleep, through the names in this file alone. A
// program that defines HEDDLE_MACHINE puts another machine under the same headers: the schedule
// explorer runs them on fibers, with weak memory, and kills processes at every step.
//
// Every order carries the name of its edge: `word.store(v, release("SLOT.publish"))`. Here the
// name vanishes when compiled (consteval); the explorer weakens an edge by its name. An order
// that is part of no edge is `relaxed`.

#ifdef HEDDLE_MACHINE
#include HEDDLE_MACHINE
#else

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <cstdint>
#include <type_traits>

namespace heddle {

using Order = std::memory_order;

inline constexpr Order relaxed = std::memory_order_relaxed;
/// Relaxed too, for a store by who owns the memory: all earlier stores of the word happen before it. (Else
/// it could lose to one of them. The explorer sees that it is so.)
inline constexpr Order owned = std::memory_order_relaxed;
consteval Order acquire(const char* /*edge*/) { return std::memory_order_acquire; }
consteval Order release(const char* /*edge*/) { return std::memory_order_release; }
consteval Order acq_rel(const char* /*edge*/) { return std::memory_order_acq_rel; }
consteval Order seq_cst(const char* /*edge*/) { return std::memory_order_seq_cst; }

/// A word in shared memory. Unlike std::atomic it has a trivial constructor, so that a mapped file
/// may be looked at as one, and no default order. Always lock-free: 4 or 8 bytes.
template <class T>
class Atomic {
  static_assert(std::is_unsigned_v<T> && (sizeof(T) == 4 || sizeof(T) == 8));

 public:
  Atomic() = default;
  Atomic(const Atomic&) = delete;
  Atomic& operator=(const Atomic&) = delete;

  T load(Order order) const noexcept { return ref().load(order); }
  void store(T value, Order order) noexcept { ref().store(value, order); }
  T exchange(T value, Order order) noexcept { return ref().exchange(value, order); }
  T fetch_add(T value, Order order) noexcept { return ref().fetch_add(value, order); }
  T fetch_or(T value, Order order) noexcept { return ref().fetch_or(value, order); }
  /// Strong. On failure `expected` holds what is there, read relaxed.
  bool compare_exchange(T& expected, T desired, Order order) noexcept {
    return ref().compare_exchange_strong(expected, desired, order, relaxed);
  }

 private:
  // atomic_ref takes no const object in C++20; load() writes nothing, so a read-only mapping works.
  std::atomic_ref<T> ref() const noexcept { return std::atomic_ref<T>(const_cast<T&>(value_)); }

  alignas(sizeof(T)) T value_;
};

inline void fence(Order order) noexcept {
#if defined(__clang__) && defined(__x86_64__)
  // A locked instruction on one's own stack is a full fence too, and takes 8 ns where clang's
  // mfence takes 40. (GCC emits it by itself.)
  if (order == std::memory_order_seq_cst) {
    asm volatile("lock; orl $0, (%%rsp)" ::: "memory", "cc");
    return;
  }
#endif
  std::atomic_thread_fence(order);
}

/// The same, straight after a read-modify-write of this thread's that it orders too: on x86 those are
/// full fences themselves, and only the compiler is left to be told.
inline void fence_after_rmw(Order order) noexcept {
#if defined(__x86_64__)
  static_cast<void>(order);
  asm volatile("" ::: "memory");
#else
  fence(order);
#endif
}

/// Sleeps while `word` still is `expected`, at most `nanoseconds`. Spurious returns are allowed.
/// Shared between processes (no FUTEX_PRIVATE_FLAG).
inline void futex_wait(Atomic<std::uint32_t>& word, std::uint32_t expected,
                       std::int64_t nanoseconds) noexcept {
  const timespec limit{nanoseconds / 1'000'000'000, nanoseconds % 1'000'000'000};
  syscall(SYS_futex, &word, FUTEX_WAIT, expected, &limit, nullptr, 0);
}

/// Wakes up to `count` sleepers and says how many there were.
inline int futex_wake(Atomic<std::uint32_t>& word, int count) noexcept {
  return static_cast<int>(syscall(SYS_futex, &word, FUTEX_WAKE, count, nullptr, nullptr, 0));
}

inline constexpr int all_sleepers = INT_MAX;

inline void pause() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

inline void yield() noexcept { sched_yield(); }

/// CLOCK_MONOTONIC in nanoseconds: the same clock in every process. About 25 ns (vDSO).
inline std::int64_t monotonic_ns() noexcept {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

}  // namespace heddle

#endif

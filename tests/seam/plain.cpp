// heddle.cpp with std::atomic and std::memory_order. The two differ in nothing else.

#include <atomic>
#include <cstdint>

namespace seam {

using namespace std;

template <class T>
struct Operations {
  struct Shared {
    atomic<T> word;
    atomic<T> other;
    T value;
  };

  static T load_relaxed(const Shared& at) { return at.word.load(memory_order_relaxed); }
  static T load_acquire(const Shared& at) { return at.word.load(memory_order_acquire); }
  static T load_seq_cst(const Shared& at) { return at.word.load(memory_order_seq_cst); }
  static void store_relaxed(Shared& at, T value) { at.word.store(value, memory_order_relaxed); }
  static void store_release(Shared& at, T value) { at.word.store(value, memory_order_release); }
  static void store_seq_cst(Shared& at, T value) { at.word.store(value, memory_order_seq_cst); }
  static T exchange_relaxed(Shared& at, T value) {
    return at.word.exchange(value, memory_order_relaxed);
  }
  static T exchange_acquire(Shared& at, T value) {
    return at.word.exchange(value, memory_order_acquire);
  }
  static T exchange_release(Shared& at, T value) {
    return at.word.exchange(value, memory_order_release);
  }
  static T exchange_acq_rel(Shared& at, T value) {
    return at.word.exchange(value, memory_order_acq_rel);
  }
  static T exchange_seq_cst(Shared& at, T value) {
    return at.word.exchange(value, memory_order_seq_cst);
  }
  static T fetch_add_relaxed(Shared& at, T value) {
    return at.word.fetch_add(value, memory_order_relaxed);
  }
  static T fetch_add_acquire(Shared& at, T value) {
    return at.word.fetch_add(value, memory_order_acquire);
  }
  static T fetch_add_release(Shared& at, T value) {
    return at.word.fetch_add(value, memory_order_release);
  }
  static T fetch_add_acq_rel(Shared& at, T value) {
    return at.word.fetch_add(value, memory_order_acq_rel);
  }
  static T fetch_add_seq_cst(Shared& at, T value) {
    return at.word.fetch_add(value, memory_order_seq_cst);
  }
  static T fetch_or_relaxed(Shared& at, T value) {
    return at.word.fetch_or(value, memory_order_relaxed);
  }
  static T fetch_or_acquire(Shared& at, T value) {
    return at.word.fetch_or(value, memory_order_acquire);
  }
  static T fetch_or_release(Shared& at, T value) {
    return at.word.fetch_or(value, memory_order_release);
  }
  static T fetch_or_acq_rel(Shared& at, T value) {
    return at.word.fetch_or(value, memory_order_acq_rel);
  }
  static T fetch_or_seq_cst(Shared& at, T value) {
    return at.word.fetch_or(value, memory_order_seq_cst);
  }
  static bool compare_exchange_relaxed(Shared& at, T& expected, T desired) {
    return at.word.compare_exchange_strong(expected, desired, memory_order_relaxed,
                                           memory_order_relaxed);
  }
  static bool compare_exchange_acquire(Shared& at, T& expected, T desired) {
    return at.word.compare_exchange_strong(expected, desired, memory_order_acquire,
                                           memory_order_relaxed);
  }
  static bool compare_exchange_release(Shared& at, T& expected, T desired) {
    return at.word.compare_exchange_strong(expected, desired, memory_order_release,
                                           memory_order_relaxed);
  }
  static bool compare_exchange_acq_rel(Shared& at, T& expected, T desired) {
    return at.word.compare_exchange_strong(expected, desired, memory_order_acq_rel,
                                           memory_order_relaxed);
  }
  static bool compare_exchange_seq_cst(Shared& at, T& expected, T desired) {
    return at.word.compare_exchange_strong(expected, desired, memory_order_seq_cst,
                                           memory_order_relaxed);
  }
  static T fence_acquire(Shared& at) {
    at.value = 1;
    atomic_thread_fence(memory_order_acquire);
    return at.other.load(memory_order_relaxed);
  }
  static T fence_release(Shared& at) {
    at.value = 1;
    atomic_thread_fence(memory_order_release);
    return at.other.load(memory_order_relaxed);
  }
  static T fence_acq_rel(Shared& at) {
    at.value = 1;
    atomic_thread_fence(memory_order_acq_rel);
    return at.other.load(memory_order_relaxed);
  }
  static T fence_seq_cst(Shared& at) {
    at.value = 1;
    atomic_thread_fence(memory_order_seq_cst);
    return at.other.load(memory_order_relaxed);
  }

  // A claim: read, and exchange as long as nobody is there.
  static bool claim(Shared& at, T mine) {
    T seen = at.word.load(memory_order_acquire);
    while (seen == 0) {
      if (at.word.compare_exchange_strong(seen, mine, memory_order_acq_rel, memory_order_relaxed))
        return true;
    }
    return false;
  }
  // A copy that races with its writer, and the second look.
  static bool copy_seen_twice(const Shared* at, T* to, T count) {
    const T seen = at->word.load(memory_order_acquire);
    for (T i = 0; i < count; ++i) to[i] = at[i].other.load(memory_order_relaxed);
    atomic_thread_fence(memory_order_acquire);
    return at->word.load(memory_order_relaxed) == seen;
  }
  // An arrival, and whether all others have arrived.
  static bool arrive_fence_seq_cst(Shared* at, T count, T epoch) {
    at->word.store(epoch, memory_order_release);
    atomic_thread_fence(memory_order_seq_cst);
    for (T i = 1; i < count; ++i) {
      if (at[i].word.load(memory_order_acquire) < epoch) return false;
    }
    return true;
  }
  // A change, and whether anybody sleeps.
  static bool change_by_rmw(Shared& at, T value) {
    at.word.exchange(value, memory_order_seq_cst);
    return (at.other.load(memory_order_seq_cst) & 1) != 0;
  }
};

template struct Operations<std::uint32_t>;
template struct Operations<std::uint64_t>;

}  // namespace seam

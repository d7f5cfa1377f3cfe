// What mechanisms do to words, by the names of base/atomic.hpp. plain.cpp does the same by those of
// <atomic>, line by line, and compare.sh sees that the compiler makes the same code of both.

#include "heddle/base/atomic.hpp"

namespace seam {

using namespace heddle;

template <class T>
struct Operations {
  struct Shared {
    Atomic<T> word;
    Atomic<T> other;
    T value;
  };

  static T load_relaxed(const Shared& at) { return at.word.load(relaxed); }
  static T load_acquire(const Shared& at) { return at.word.load(acquire("SEAM.acquire")); }
  static T load_seq_cst(const Shared& at) { return at.word.load(seq_cst("SEAM.seq_cst")); }
  static void store_relaxed(Shared& at, T value) { at.word.store(value, relaxed); }
  static void store_release(Shared& at, T value) { at.word.store(value, release("SEAM.release")); }
  static void store_seq_cst(Shared& at, T value) { at.word.store(value, seq_cst("SEAM.seq_cst")); }
  static T exchange_relaxed(Shared& at, T value) { return at.word.exchange(value, relaxed); }
  static T exchange_acquire(Shared& at, T value) {
    return at.word.exchange(value, acquire("SEAM.acquire"));
  }
  static T exchange_release(Shared& at, T value) {
    return at.word.exchange(value, release("SEAM.release"));
  }
  static T exchange_acq_rel(Shared& at, T value) {
    return at.word.exchange(value, acq_rel("SEAM.acq_rel"));
  }
  static T exchange_seq_cst(Shared& at, T value) {
    return at.word.exchange(value, seq_cst("SEAM.seq_cst"));
  }
  static T fetch_add_relaxed(Shared& at, T value) { return at.word.fetch_add(value, relaxed); }
  static T fetch_add_acquire(Shared& at, T value) {
    return at.word.fetch_add(value, acquire("SEAM.acquire"));
  }
  static T fetch_add_release(Shared& at, T value) {
    return at.word.fetch_add(value, release("SEAM.release"));
  }
  static T fetch_add_acq_rel(Shared& at, T value) {
    return at.word.fetch_add(value, acq_rel("SEAM.acq_rel"));
  }
  static T fetch_add_seq_cst(Shared& at, T value) {
    return at.word.fetch_add(value, seq_cst("SEAM.seq_cst"));
  }
  static T fetch_or_relaxed(Shared& at, T value) { return at.word.fetch_or(value, relaxed); }
  static T fetch_or_acquire(Shared& at, T value) {
    return at.word.fetch_or(value, acquire("SEAM.acquire"));
  }
  static T fetch_or_release(Shared& at, T value) {
    return at.word.fetch_or(value, release("SEAM.release"));
  }
  static T fetch_or_acq_rel(Shared& at, T value) {
    return at.word.fetch_or(value, acq_rel("SEAM.acq_rel"));
  }
  static T fetch_or_seq_cst(Shared& at, T value) {
    return at.word.fetch_or(value, seq_cst("SEAM.seq_cst"));
  }
  static bool compare_exchange_relaxed(Shared& at, T& expected, T desired) {
    return at.word.compare_exchange(expected, desired, relaxed);
  }
  static bool compare_exchange_acquire(Shared& at, T& expected, T desired) {
    return at.word.compare_exchange(expected, desired, acquire("SEAM.acquire"));
  }
  static bool compare_exchange_release(Shared& at, T& expected, T desired) {
    return at.word.compare_exchange(expected, desired, release("SEAM.release"));
  }
  static bool compare_exchange_acq_rel(Shared& at, T& expected, T desired) {
    return at.word.compare_exchange(expected, desired, acq_rel("SEAM.acq_rel"));
  }
  static bool compare_exchange_seq_cst(Shared& at, T& expected, T desired) {
    return at.word.compare_exchange(expected, desired, seq_cst("SEAM.seq_cst"));
  }
  static T fence_acquire(Shared& at) {
    at.value = 1;
    fence(acquire("SEAM.acquire"));
    return at.other.load(relaxed);
  }
  static T fence_release(Shared& at) {
    at.value = 1;
    fence(release("SEAM.release"));
    return at.other.load(relaxed);
  }
  static T fence_acq_rel(Shared& at) {
    at.value = 1;
    fence(acq_rel("SEAM.acq_rel"));
    return at.other.load(relaxed);
  }
  static T fence_seq_cst(Shared& at) {
    at.value = 1;
    fence(seq_cst("SEAM.seq_cst"));
    return at.other.load(relaxed);
  }

  // A claim: read, and exchange as long as nobody is there.
  static bool claim(Shared& at, T mine) {
    T seen = at.word.load(acquire("SEAM.acquire"));
    while (seen == 0) {
      if (at.word.compare_exchange(seen, mine, acq_rel("SEAM.acq_rel"))) return true;
    }
    return false;
  }
  // A copy that races with its writer, and the second look.
  static bool copy_seen_twice(const Shared* at, T* to, T count) {
    const T seen = at->word.load(acquire("SEAM.acquire"));
    for (T i = 0; i < count; ++i) to[i] = at[i].other.load(relaxed);
    fence(acquire("SEAM.acquire"));
    return at->word.load(relaxed) == seen;
  }
  // An arrival, and whether all others have arrived.
  static bool arrive_fence_seq_cst(Shared* at, T count, T epoch) {
    at->word.store(epoch, release("SEAM.release"));
    fence(seq_cst("SEAM.seq_cst"));
    for (T i = 1; i < count; ++i) {
      if (at[i].word.load(acquire("SEAM.acquire")) < epoch) return false;
    }
    return true;
  }
  // A change, and whether anybody sleeps.
  static bool change_by_rmw(Shared& at, T value) {
    at.word.exchange(value, seq_cst("SEAM.seq_cst"));
    return (at.other.load(seq_cst("SEAM.seq_cst")) & 1) != 0;
  }
};

template struct Operations<std::uint32_t>;
template struct Operations<std::uint64_t>;

}  // namespace seam

#pragma once

// Waiting: spin a little, yield, then sleep on a futex that all processes share.
//
// Who may call    any participant (it sets the sleeper bit, so it needs a writable mapping)
// Progress        blocking, bounded by the deadline; the changer's side is lock-free and makes a
//                 system call only when somebody may be asleep
// State           Event.word {count:31, sleepers:1}
// Invariants      WAIT-1  whoever sleeps has seen the state unchanged after its bit was set, in the
//                         very word value that it sleeps on
//                 WAIT-2  the bit is set whenever somebody sleeps
// Edges           change, fence -> bit  |  bit, fence -> state   (one of the two sees the other)
// On death        sleeper: its bit stays until the next wake finds nobody and clears it
//                 waker between its change and its wake: sleepers look again after at most 10 ms
//                 the awaited: `probe` sees it, at the first sleep, every 10 ms from then on, and
//                 before a wait ends with its deadline: so those that wait in short pieces see it too
// Source          eventcount (folly/EventCount.h); a bit in place of a count of sleepers, since a
//                 count goes wrong for ever when a sleeper dies

#include <algorithm>
#include <cstdint>

#include "heddle/base/atomic.hpp"
#include "heddle/base/clock.hpp"
#include "heddle/base/error.hpp"

namespace heddle {

enum class WaitStrategy : std::uint8_t {
  spin,      ///< never sleeps; lowest latency, a core for each waiter
  adaptive,  ///< spins for microseconds, yields for less than a millisecond, sleeps
  sleep,     ///< sleeps at once
};

/// The word that waiters of one condition sleep on. All zeroes is a valid new one.
class Event {
 public:
  /// Call after the state was changed. Wakes everybody; no system call when nobody sleeps.
  void notify_all() noexcept {
    fence(seq_cst("WAIT.changed"));  // the change above, then the bit; pairs with WAIT.announced
    std::uint32_t word = word_.load(relaxed);
    while (word & sleepers_bit) {
      // When it fails: another changer took the bit and will wake, or a new sleeper came, who
      // looked at the state after this change.
      if (word_.compare_exchange(word, (word + one_count) & ~sleepers_bit, relaxed)) {
        futex_wake(word_, all_sleepers);
        return;
      }
    }
  }

  /// Call after a change that one waiter can use up (one task for one worker). Wakes one.
  /// The bit stays for the others, so a woken process that dies takes no wake-up with it; the
  /// first wake that finds nobody clears it.
  void notify_one() noexcept {
    fence(seq_cst("WAIT.changed"));  // as above
    std::uint32_t word = word_.load(relaxed);
    while (word & sleepers_bit) {
      const std::uint32_t woken = word + one_count;
      if (!word_.compare_exchange(word, woken, relaxed)) continue;
      if (futex_wake(word_, 1) == 0) {
        // Nobody slept. Somebody may have announced itself since then, finding the bit set, and
        // even fallen asleep on `woken`: it must not sleep on without its bit. Later sleepers
        // find another word than they announced, and FUTEX_WAIT returns at once. The count moves
        // again for that: else the next announcement would bring `woken` back, and whoever
        // announced that and was slow to fall asleep would miss a change in between.
        word = woken;
        if (word_.compare_exchange(word, (woken + one_count) & ~sleepers_bit, relaxed)) {
          futex_wake(word_, all_sleepers);
        }
      }
      return;
    }
  }

  /// notify_one without its fence, for a caller whose change itself was a seq_cst read-modify-write
  /// (which on x86 and ARM64 costs no more than a weaker one).
  /// Let W be that change, L this load, R the sleeper's bit, F its fence, G its look at the state.
  /// W, L and F are in the single order S of seq_cst operations, W before L. If L misses R, L is
  /// coherence-ordered before R, which happens before F: L before F. If G misses W, then likewise F
  /// before W. Both would close a circle, so one of the two sees the other ([atomics.order] 4).
  void notify_one_after_rmw() noexcept {
    if (has_sleepers_after_rmw()) [[unlikely]]
      notify_one();
  }
  /// The same, for a caller that has more to find out before it wakes anybody.
  bool has_sleepers_after_rmw() const noexcept {
    return word_.load(seq_cst("WAIT.changed_rmw")) & sleepers_bit;
  }

  /// Wakes everybody whatever the bit says: for recovery, since a waker may have died between
  /// taking the bit and waking.
  void wake_regardless() noexcept {
    // The repair, for a sleeper that finds the count moved and looks once more. -> WAIT.announced
    word_.fetch_add(one_count, release("WAIT.recovered"));
    futex_wake(word_, all_sleepers);
  }

  /// Says that the caller is about to sleep. It must look at the state again before sleep().
  std::uint32_t announce() noexcept {
    const std::uint32_t word = word_.fetch_or(sleepers_bit, relaxed) | sleepers_bit;  // WAIT-2
    fence(seq_cst("WAIT.announced"));  // the bit, then the state; pairs with WAIT.changed
    return word;
  }

  /// The word, for a sleep that is not announced: nobody will end it.
  std::uint32_t look() const noexcept { return word_.load(relaxed); }

  void sleep(std::uint32_t announced, std::int64_t nanoseconds) noexcept {
    futex_wait(word_, announced, nanoseconds);
  }

 private:
  static constexpr std::uint32_t sleepers_bit = 1;
  static constexpr std::uint32_t one_count = 2;
  Atomic<std::uint32_t> word_;
};
static_assert(sizeof(Event) == 4);

/// Whether spinning pays, learnt from the last spin. One that was in vain most often means that
/// those one waits for need this very core: the next waits yield at once. Measured on two cores:
/// four parties of a barrier need 2.4 us a round with it and 20 us without, two are as fast. For a
/// handle that waits often; private to it.
class Patience {
 public:
  bool has_any() noexcept { return without_ == 0 || --without_ == 0; }
  void lose() noexcept { without_ = 256; }
  /// When the last wait that was not over at once, or after a spin, began to take its time.
  std::int64_t lost_at() const noexcept { return lost_at_; }
  void lost_at(std::int64_t now) noexcept { lost_at_ = now; }
  /// Whether to ask again after those that are waited for: at most once a millisecond, however short
  /// the waits are.
  bool may_look() noexcept {
    const std::int64_t now = monotonic_ns();
    if (now - looked_ < 1'000'000) return false;
    looked_ = now;
    return true;
  }

 private:
  std::uint32_t without_ = 0;  // waits that do not spin
  std::int64_t looked_ = 0;
  std::int64_t lost_at_ = 0;
};

/// Whether a sleeper says that it sleeps. An observer cannot: nobody wakes it, so it looks every 2 ms.
enum class Sleeps : std::uint8_t { announced, unseen };

/// Waits until `ready()` is true.
/// `ready` may do the awaited thing itself (take a task) and is called many times.
/// `probe` looks whether those that are waited for are alive, recovers the dead, and returns
/// Status::ready to go on waiting or the status to give up with; `ready` is asked once more first.
/// It is called before a timeout as well, also at a deadline that has passed: one that is dear limits
/// itself (Patience::may_look).
/// Returns ready, timeout, or what `probe` gave. Blocking; never throws or allocates.
template <class Ready, class Probe>
Status wait_for(Event& event, Deadline deadline, WaitStrategy strategy, Ready&& ready,
                Probe&& probe, Patience* patience = nullptr, Sleeps sleeps = Sleeps::announced) {
  constexpr int spins = 200;                          // pauses: some microseconds
  constexpr std::int64_t yielding_ns = 200'000;       // then yields, which a busy machine needs
  constexpr std::int64_t longest_sleep = 10'000'000;  // then looks again: a waker may have died
  constexpr std::int64_t unseen_sleep = 2'000'000;    // the same, when nobody knows of it
  constexpr std::int64_t spin_probe_ns = 1'000'000;   // `spin` never sleeps, so it probes by time

  const auto probed = [&](Status otherwise) {
    const Status verdict = probe();
    if (ready()) return Status::ready;
    return verdict == Status::ready ? otherwise : verdict;
  };

  if (ready()) return Status::ready;
  if (deadline.is_now()) return probed(Status::timeout);
  if (strategy != WaitStrategy::sleep && (patience == nullptr || patience->has_any())) {
    for (int i = 0; i < spins; ++i) {
      pause();
      if (ready()) return Status::ready;
    }
    if (patience != nullptr) patience->lose();
  }

  const std::int64_t start = monotonic_ns();
  if (patience != nullptr) patience->lost_at(start);
  std::int64_t next_probe = start + spin_probe_ns;
  for (std::int64_t now = start;; now = monotonic_ns()) {
    const std::int64_t left = deadline.left(now);
    if (left <= 0) return probed(Status::timeout);

    const bool asleep = strategy == WaitStrategy::sleep ||
                        (strategy == WaitStrategy::adaptive && now - start >= yielding_ns);
    if (asleep) {
      const bool unseen = sleeps == Sleeps::unseen;
      const std::uint32_t seen = unseen ? event.look() : event.announce();
      if (ready()) return Status::ready;
      const std::int64_t longest = next_probe > now ? next_probe - now : 1;
      // WAIT-1: if the word is another by now, the state may be, and this returns at once.
      event.sleep(seen, std::min({left, longest, unseen ? unseen_sleep : longest_sleep}));
    } else if (strategy == WaitStrategy::adaptive) {
      yield();
    } else {
      for (int i = 0; i < spins; ++i) {
        pause();
        if (ready()) return Status::ready;
      }
    }
    if (ready()) return Status::ready;

    if (now >= next_probe) {
      if (const Status verdict = probe(); verdict != Status::ready) {
        return ready() ? Status::ready : verdict;
      }
      if (ready()) return Status::ready;
      next_probe = monotonic_ns() + (asleep ? longest_sleep : spin_probe_ns);
    }
  }
}

}  // namespace heddle

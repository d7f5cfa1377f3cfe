#pragma once

// Lease ring: a bounded queue for any number of producers and consumers, whose tasks survive their
// workers. Untyped; TaskQueue<T> is its face.
//
// Who may call    a LeaseRing: any participant, one thread at a time; more handles for more threads.
//                 A Lease or Reservation: the process that took it; it outlives the LeaseRing.
// Progress        try_reserve, try_lease, close: lock-free. commit, complete, give_back, cancel: a
//                 retry needs a producer that has gone round the whole ring meanwhile.
//                 reserve, lease: blocking, bounded by their deadline
// State           slot.word {cycle:40, grant:11, owner:10, state:3}, the only truth; head and tail
//                 are lower bounds that may be stale. (t: the slot's ticket in cycle c)
//
//   from             to              by                                     order, edge
//   FREE c           FILLING c       a producer at t                        claim <- free
//   FILLING c        QUEUED c        its producer: commit                   commit -> lease; WAIT
//   FILLING c        FREE c+1        its producer: cancel, or recovery      free -> claim; WAIT
//   FILLING c        ABANDONED c+1   a consumer at t, tired of waiting, when a later one is QUEUED
//   ABANDONED c      REQUEUE c       its producer: commit                   commit -> lease; returned
//   ABANDONED c      FREE c          its producer: cancel, or recovery      free -> claim; WAIT
//   QUEUED c         LEASED c+1      a consumer at t; grant 1               lease <- commit
//   REQUEUE c        LEASED c        a consumer anywhere; grant + 1         lease <- commit
//   LEASED c         FREE c          its holder: complete                   free -> claim; WAIT
//   LEASED c         REQUEUE c       its holder: give_back, or recovery     returned
//   LEASED, ABANDONED or REQUEUE c   -> the same, c+1: a producer at t goes past (long leases).
//                                    Orders nothing
//
//   Every change is a read-modify-write, so a release heads a release sequence that lasts for ever:
//   whoever acquires the word has seen all earlier releases, whatever changes came between.
//
// Invariants
//   QUEUE-1  One owner: FILLING, ABANDONED and LEASED are left by their owner alone, or by recovery
//            once it is dead. The payload is written by FILLING's and ABANDONED's owner, read by
//            LEASED's.
//   QUEUE-2  Tickets are passed in order: producers pass t when its word is FILLING or QUEUED c or
//            of a later cycle, consumers when it is of a later cycle. So FREE, LEASED, ABANDONED or
//            REQUEUE c at t says that nothing was pushed at t or later, by one look at one word.
//            A word of cycle c says that producers have passed ticket (c-1, slot), and, since they
//            cannot be more than a lap ahead, that consumers have passed (c-2, slot): the only
//            jumps allowed.
//   QUEUE-3  A lease ends once. Its word alone may differ from what its holder knows by the cycle
//            (producers went past), so that the ticket, written at filling, tells it from a lease
//            of a later task of the slot by another thread of the same process. (An equal word is
//            the same lease: every refill changes the cycle, every lease in place the grant.)
//   QUEUE-4  Nothing behind their backs is missed: who makes a REQUEUE adds to `returned` after it,
//            recovery always does; consumers that see it changed scan the ring before they say
//            `empty` or sleep. The scan reads after `returned`: returned -> scan.
//   QUEUE-5  After close no task comes: the drainer, having read `phase`, looks at every slot by a
//            read-modify-write. A claim or completion that comes after this in the word's order has
//            acquired it, and sees `phase`: the producer cancels, the worker wakes the drainers. One
//            that came before it is seen. So FREE, once looked at, is for good, and one pass (kept
//            in the handle) finds the queue drained. No fence on the way of producers.
//   QUEUE-6  Nobody sleeps past its task or slot: commit, lease and complete are seq_cst, and then
//            look for sleepers (Event::notify_one_after_rmw has the argument). A slot that became
//            free out of order cannot be used before the QUEUED or FILLING in front of it is
//            passed: who passes that wakes the producers. (A completion that found nobody asleep
//            comes before the sleeper's fence in S, that before the lease of the slot in front, that
//            before QUEUE.way's look.)
//   QUEUE-7  Whoever goes past a ticket, by its word or by a hint, knows what those knew who went
//            before: so the one look of QUEUE-2 is at a word no older than what it stands for, and
//            `empty` is linearizable. (Relaxed, one could hear `empty` with one's own task waiting.)
//
// On death        FILLING, ABANDONED: FREE, by repair(). A half-written payload is never seen.
//                 LEASED: REQUEUE, by repair(). The task is done again: at least once.
//                 between REQUEUE and `returned`: repair() always adds; and idle consumers, who look
//                 for holders every 10 ms, see the REQUEUE (also when its returner is only stopped)
//                 between a change and its wake: repair() wakes all, sleepers look every 10 ms
//                 hints not stored, scan or drain broken off: nothing is lost
//                 Who looks: consumers with nothing to do, and producers that find no room.
// Not for         the newest value: that is a Slot. FIFO as long as nobody dies or stalls.
// Source          ring of cycles: Vyukov's bounded queue, without its tickets by fetch_add (a death
//                 after one blocks the ring); leases in the word: design.md, 4.2 and last section

#include <cstddef>
#include <cstdint>
#include <span>

#include "heddle/base/clock.hpp"
#include "heddle/base/error.hpp"
#include "heddle/base/wait.hpp"
#include "heddle/shm/peers.hpp"
#include "heddle/sync/lease_word.hpp"

namespace heddle {

/// How many slots are in which state, seen one after the other.
struct LeaseCounts {
  std::uint64_t filling = 0;  ///< also those that consumers have gone past
  std::uint64_t waiting = 0;  ///< tasks to be had
  std::uint64_t leased = 0;
};

class LeaseRing {
 public:
  class Reservation;
  class Lease;

  /// Makes an empty ring in zeroed, 64-byte aligned memory of shape.bytes(). The shape is valid.
  static void format(std::span<std::byte> memory, const LeaseRingShape& shape,
                     std::uint64_t first_cycle = 0) noexcept;

  /// Attaches. The shape is that of the ring in `memory` (LeaseRingShape::of).
  LeaseRing(std::span<std::byte> memory, const LeaseRingShape& shape, Peers& peers) noexcept;

  /// A slot to fill: ready, full, closed.
  Status try_reserve(Reservation& out) noexcept;
  /// The same: ready, timeout, closed.
  Status reserve(Reservation& out, Deadline deadline) noexcept;

  /// A task to do: ready, empty, or closed when it is closed and no task can come any more.
  Status try_lease(Lease& out) noexcept;
  /// The same: ready, timeout, closed.
  Status lease(Lease& out, Deadline deadline) noexcept;

  /// Nothing more is pushed; what is there is still leased. Idempotent. ready, or closed if forked.
  Status close() noexcept;
  bool is_closed() const noexcept {
    return header_->phase.load(acquire("QUEUE.close")) !=
           static_cast<std::uint32_t>(LeasePhase::open);
  }

  LeaseCounts count() const noexcept;
  std::uint32_t capacity() const noexcept { return static_cast<std::uint32_t>(mask_ + 1); }
  std::size_t payload_at() const noexcept { return payload_at_; }
  void wait_strategy(WaitStrategy strategy) noexcept { strategy_ = strategy; }

  /// Frees and returns all that `dead` held, and wakes everybody.
  static void repair(std::span<std::byte> memory, const Dead& dead) noexcept;

 private:
  static std::uint64_t later(std::uint64_t a, std::uint64_t b) noexcept {
    return static_cast<std::int64_t>(a - b) > 0 ? a : b;
  }
  std::uint64_t cycle_of(std::uint64_t ticket) const noexcept {
    return ticket >> shift_ & LeaseWord::cycle_mask;
  }
  LeaseSlot& at(std::uint64_t ticket) const noexcept {
    return *reinterpret_cast<LeaseSlot*>(slots_ + (ticket & mask_) * stride_);
  }
  std::uint64_t past(std::uint64_t ticket, std::int64_t laps) const noexcept {
    return ticket + 1 + (laps > 0 ? static_cast<std::uint64_t>(laps) << shift_ : 0);
  }

  Status find_free(Reservation& out) noexcept;
  Status claim(Reservation& out, LeaseSlot& slot, LeaseWord free, std::uint64_t ticket) noexcept;
  Status walk_to_free(Reservation& out, std::uint64_t ticket) noexcept;

  Status find_task(Lease& out) noexcept;
  bool take(Lease& out, LeaseSlot& slot, LeaseWord queued, std::uint64_t ticket) noexcept;
  bool take_returned(Lease& out, LeaseSlot& slot, LeaseWord requeue) noexcept;
  Status walk_to_task(Lease& out, std::uint64_t ticket) noexcept;
  bool go_past_filling(LeaseSlot& slot, LeaseWord filling, std::uint64_t ticket) noexcept;
  bool queued_after(std::uint64_t ticket) const noexcept;
  bool caught_up() noexcept;
  bool scan_returned(Lease& out) noexcept;
  Status drain(Lease& out) noexcept;

  void opened_way(std::uint64_t ticket) noexcept;
  bool recover_in_the_way() noexcept;
  bool recover_holders() noexcept;
  bool recover_when_idle() noexcept;

  // Fixed: private copies of what was checked.
  LeaseRingHeader* header_;
  std::byte* slots_;
  std::size_t stride_;
  std::size_t payload_at_;
  std::uint64_t mask_;
  unsigned shift_;
  int patience_;  ///< pauses that a consumer grants a producer before it goes past it
  Peers* peers_;
  WaitStrategy strategy_ = WaitStrategy::adaptive;

  std::uint64_t tail_ = 0;           ///< producers have passed all tickets below
  std::uint64_t head_ = 0;           ///< consumers have passed all tickets below
  std::uint64_t returned_seen_ = 0;  ///< the ring was scanned since `returned` was this
  std::uint64_t scanning_for_ = 0;   ///< what `returned` was when the present scan began
  std::uint64_t scanned_ = 0;        ///< slots of the present scan; 0: none is going on
  std::uint64_t drained_ = 0;        ///< slots below are empty for good
  std::uint64_t look_at_ = 0;        ///< where recover_holders goes on
  std::int64_t looked_ = 0;          ///< when
  std::uint32_t streak_ = 0;         ///< tasks taken since nothing was there
  std::uint32_t idle_ = 0;           ///< times that nothing was there
  Owner in_the_way_ = nobody;        ///< of the FILLING slot that made the ring full
  bool all_held_ = false;            ///< the ring is full of leases
};

/// A slot that its taker fills. It must end in one commit or cancel.
class LeaseRing::Reservation {
 public:
  std::byte* payload(std::size_t payload_at) const noexcept {
    return reinterpret_cast<std::byte*>(slot_) + payload_at;
  }
  std::uint64_t id() const noexcept { return slot_->ticket.load(relaxed); }

  /// Publishes the payload. closed in a forked child, lost_lease if we were taken for dead.
  Status commit() const noexcept {
    if (!peers_->present()) return Status::closed;
    std::uint64_t expected = filling_.bits();
    const LeaseWord queued = filling_.as(LeaseState::queued, nobody);
    if (!slot_->word.compare_exchange(expected, queued.bits(), seq_cst("QUEUE.commit"))) {
      return commit_late(LeaseWord(expected));
    }
    ring_->not_empty.notify_one_after_rmw();
    return Status::ready;
  }
  /// Gives the slot back.
  Status cancel() const noexcept;

 private:
  friend LeaseRing;
  Status commit_late(LeaseWord word) const noexcept;

  LeaseRingHeader* ring_ = nullptr;
  Peers* peers_ = nullptr;
  LeaseSlot* slot_ = nullptr;
  LeaseWord filling_{0};
};

/// A task that its taker works on. It must end in one complete or give_back.
class LeaseRing::Lease {
 public:
  const std::byte* payload(std::size_t payload_at) const noexcept {
    return reinterpret_cast<const std::byte*>(slot_) + payload_at;
  }
  std::uint64_t id() const noexcept { return ticket_; }
  std::uint64_t tries() const noexcept { return leased_.grant(); }

  /// The task is done. lost_lease if others have it, closed in a forked child.
  Status complete() const noexcept {
    if (!peers_->present()) return Status::closed;
    std::uint64_t expected = leased_.bits();
    const LeaseWord free(leased_.cycle(), 0, nobody, LeaseState::free);
    if (!slot_->word.compare_exchange(expected, free.bits(), seq_cst("QUEUE.free"))) {
      return end_late(LeaseState::free);
    }
    ended(*ring_);
    return Status::ready;
  }
  /// Others may have the task at once.
  Status give_back() const noexcept;

 private:
  friend LeaseRing;
  static void ended(LeaseRingHeader& ring) noexcept {
    ring.not_full.notify_one_after_rmw();
    // QUEUE-5: a drainer may wait for this very slot.
    if (ring.phase.load(relaxed) != static_cast<std::uint32_t>(LeasePhase::open)) {
      ring.not_empty.notify_all();
    }
  }
  Status end_late(LeaseState state) const noexcept;

  LeaseRingHeader* ring_ = nullptr;
  Peers* peers_ = nullptr;
  LeaseSlot* slot_ = nullptr;
  LeaseWord leased_{0};
  std::uint64_t ticket_ = 0;
};

inline Status LeaseRing::claim(Reservation& out, LeaseSlot& slot, LeaseWord free,
                               std::uint64_t ticket) noexcept {
  std::uint64_t expected = free.bits();
  const LeaseWord filling(free.cycle(), 0, peers_->self(), LeaseState::filling);
  if (!slot.word.compare_exchange(expected, filling.bits(), acq_rel("QUEUE.claim"))) {
    return Status::busy;
  }
  tail_ = ticket + 1;
  header_->tail.store(tail_, release("QUEUE.tail"));  // QUEUE-7
  slot.ticket.store(free.cycle() << shift_ | (ticket & mask_), relaxed);
  out.ring_ = header_;
  out.peers_ = peers_;
  out.slot_ = &slot;
  out.filling_ = filling;
  // QUEUE-5: looked at after the claim, whose acquire a drainer's look at this word has fed.
  if (header_->phase.load(relaxed) == static_cast<std::uint32_t>(LeasePhase::open)) {
    return Status::ready;
  }
  static_cast<void>(out.cancel());
  return Status::closed;
}

inline Status LeaseRing::find_free(Reservation& out) noexcept {
  if (!peers_->present() || is_closed()) return Status::closed;
  const std::uint64_t ticket = later(tail_, header_->tail.load(acquire("QUEUE.tail")));  // QUEUE-7
  LeaseSlot& slot = at(ticket);
  const LeaseWord word(slot.word.load(relaxed));
  if (word == LeaseWord(cycle_of(ticket), 0, nobody, LeaseState::free)) {
    if (const Status got = claim(out, slot, word, ticket); got != Status::busy) return got;
  }
  return walk_to_free(out, ticket);
}

inline Status LeaseRing::try_reserve(Reservation& out) noexcept {
  const Status got = find_free(out);
  if (got != Status::full || !recover_in_the_way()) return got;
  return find_free(out);
}

inline bool LeaseRing::take(Lease& out, LeaseSlot& slot, LeaseWord queued,
                            std::uint64_t ticket) noexcept {
  std::uint64_t expected = queued.bits();
  const LeaseWord leased = queued.next_cycle().leased_to(peers_->self());
  if (!slot.word.compare_exchange(expected, leased.bits(), seq_cst("QUEUE.lease"))) return false;
  head_ = ticket + 1;
  header_->head.store(head_, release("QUEUE.head"));  // QUEUE-7
  ++streak_;
  out.ring_ = header_;
  out.peers_ = peers_;
  out.slot_ = &slot;
  out.leased_ = leased;
  out.ticket_ = queued.cycle() << shift_ | (ticket & mask_);
  if (header_->not_full.has_sleepers_after_rmw()) opened_way(head_);
  return true;
}

inline Status LeaseRing::find_task(Lease& out) noexcept {
  if (!peers_->present()) return Status::closed;
  const std::uint64_t ticket = later(head_, header_->head.load(acquire("QUEUE.head")));  // QUEUE-7
  LeaseSlot& slot = at(ticket);
  const LeaseWord word(slot.word.load(relaxed));
  if (word == LeaseWord(cycle_of(ticket), 0, nobody, LeaseState::queued) &&
      take(out, slot, word, ticket)) {
    return Status::ready;
  }
  return walk_to_task(out, ticket);
}

inline Status LeaseRing::try_lease(Lease& out) noexcept {
  const Status got = find_task(out);
  if (got != Status::empty || ++idle_ % 64 != 0 || !recover_when_idle()) return got;
  return find_task(out);
}

}  // namespace heddle

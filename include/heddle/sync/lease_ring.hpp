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
//   QUEUED c         REQUEUE c+1     a consumer at t, when it is not due    nothing to hear of yet
//   LEASED c         ENDING c        its holder: begin_ending               end <- ending
//   ENDING c         FREE c          its holder: end_done                   free -> claim; WAIT
//   ENDING c         REQUEUE c       its holder: fail, or recovery          returned
//   ENDING, LEASED c DEAD c          its holder, recovery or expiry: after the last try
//   DEAD c           DEAD c, held    who asks for it by its id; grant + 1   lease <- the end
//   DEAD c, held     FREE, REQUEUE or DEAD c       its holder, grant - 1: dropped, retried, put back
//   DEAD c, held     DEAD c          recovery
//   LEASED c         REQUEUE c       anyone, after the lease timeout        returned
//   LEASED, ABANDONED, REQUEUE, ENDING or DEAD c -> the same, c+1: a producer at t goes past (long
//                                    leases). Orders nothing
//
//   Every change is a read-modify-write, so a release heads a release sequence that lasts for ever:
//   whoever acquires the word has seen all earlier releases, whatever changes came between.
//
// Invariants
//   QUEUE-1  One owner: FILLING, ABANDONED and LEASED are left by their owner alone, or by recovery
//            once it is dead; LEASED also by expiry, if the ring has a timeout, but ENDING never:
//            what its owner does between the two happens once a try. The payload is written by
//            FILLING's and ABANDONED's owner, read by LEASED's. Of the note each field has such an
//            owner too, but for worker and leased_at: a stamp names its lease, so that a late one of
//            an older lease begins the timeout anew, and never ends it early.
//   QUEUE-2  Tickets are passed in order: producers pass t when its word is FILLING or QUEUED c or
//            of a later cycle, consumers when it is of a later cycle. So any other state of
//            cycle c at t says that nothing was pushed at t or later, by one look at one word.
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
//            in the handle) finds the queue drained. No fence on the way of producers. A dead letter
//            is at rest too, unless it is held: who asks for it changes its word, sees `phase`,
//            and puts it back. If it dies, it is a dead letter as before, and never a task. A
//            reopened ring has another `phase`: a drainer of before cannot set `drained`, and one
//            that finds it open has nothing to set.
//   QUEUE-6  Nobody sleeps past its task or slot: commit, lease and complete are seq_cst, and then
//            look for sleepers (Event::notify_one_after_rmw has the argument). A slot that became
//            free out of order cannot be used before the QUEUED or FILLING in front of it is
//            passed: who passes that wakes the producers. (A completion that found nobody asleep
//            comes before the sleeper's fence in S, that before the lease of the slot in front, that
//            before QUEUE.way's look.)
//   QUEUE-7  Whoever goes past a ticket, by its word or by a hint, knows what those knew who went
//            before: so the one look of QUEUE-2 is at a word no older than what it stands for, and
//            `empty` is linearizable. (Relaxed, one could hear `empty` with one's own task waiting.)
//   QUEUE-8  What is listed of a dead letter was so at one time: whoever takes its slot writes ticket
//            and note after the claim, behind a release (QUEUE.filling, QUEUE.ending), so who has
//            read one of these sees the word changed (QUEUE.report). Its worker may be later.
//
// On death        FILLING, ABANDONED: FREE, by repair(). A half-written payload is never seen.
//                 LEASED, ENDING: REQUEUE, by repair(), or DEAD after the last try. The task is done
//                 again: at least once. A dead letter that it held: DEAD, and never a task.
//                 between REQUEUE and `returned`: repair() always adds; and idle consumers, who look
//                 for holders every 10 ms, see the REQUEUE (also when its returner is only stopped)
//                 between a change and its wake: repair() wakes all, sleepers look every 10 ms
//                 hints not stored, scan or drain broken off: nothing is lost
//                 Who looks: consumers with nothing to do, and producers that find no room.
// Not for         the newest value: that is a Slot. FIFO as long as nobody dies or stalls.
// Source          ring of cycles: Vyukov's bounded queue, without its tickets by fetch_add (a death
//                 after one blocks the ring); leases in the word: design.md, 4.2 and last section

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "heddle/base/clock.hpp"
#include "heddle/base/error.hpp"
#include "heddle/base/wait.hpp"
#include "heddle/shm/peers.hpp"
#include "heddle/sync/lease_word.hpp"

namespace heddle {

/// How many slots are in which state, seen one after the other.
struct LeaseCounts {
  std::uint64_t filling = 0;  ///< also those that consumers have gone past
  std::uint64_t waiting = 0;  ///< tasks to be had, those that are not due yet too
  std::uint64_t leased = 0;   ///< also those whose worker writes down how they ended
  std::uint64_t dead = 0;     ///< dead letters
  std::uint64_t retried = 0;  ///< of those waiting and leased: not at their first try
  std::int64_t oldest_ns =
      0;  ///< when the oldest of those waiting was pushed; 0: none, or no notes
};

/// A dead letter, as it stands in the ring.
struct LeaseReport {
  std::uint64_t ticket = 0;
  std::uint64_t tries = 0;
  std::uint32_t worker = 0;  ///< process id of the last one
  std::string reason;        ///< of the last try; empty: its worker died, or was too late
};

class LeaseRing {
 public:
  class Reservation;
  class Lease;

  /// Makes an empty ring in zeroed, 64-byte aligned memory of shape.bytes(). The shape is valid.
  static void format(std::span<std::byte> memory, const LeaseRingShape& shape,
                     std::uint64_t first_cycle = 0) noexcept;

  /// Attaches. The shape is that of the ring in `memory` (LeaseRingShape::of). Its consumers sleep on
  /// `not_empty`, if that is given: those of several rings on that of one.
  LeaseRing(std::span<std::byte> memory, const LeaseRingShape& shape, Peers& peers,
            Event* not_empty = nullptr) noexcept;

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
  /// Pushes are taken again. Idempotent. ready, or closed if forked.
  Status reopen() noexcept;
  bool is_closed() const noexcept { return lease_phase(phase()) != LeasePhase::open; }
  std::uint32_t phase() const noexcept { return header_->phase.load(acquire("QUEUE.close")); }
  /// Whether it is in this phase now: a read-modify-write reads the newest value.
  bool is_still_in(std::uint32_t phase) noexcept {
    return header_->phase.fetch_or(0, relaxed) == phase;
  }

  /// Takes hold of the dead letter with this ticket: ready, empty when there is none, closed. Nobody
  /// else has it until it was dropped, retried or put back; should we die, it is put back.
  Status hold_letter(Lease& out, std::uint64_t ticket) noexcept;

  // For people and tests: they look at every slot. Also from a mapping that is read only.
  LeaseCounts count() const noexcept;
  std::vector<LeaseReport> dead_letters() const;
  /// Whether a push of a task with this ticket was begun.
  bool knows(std::uint64_t ticket) const noexcept;
  /// Whether it is a dead letter.
  bool is_dead(std::uint64_t ticket) const noexcept;
  /// Whether a task that was pushed with this ticket has ended.
  bool has_ended(std::uint64_t ticket) const noexcept;

  /// What `lease` does while it waits: asks after holders, at most every 10 ms. Whether there is
  /// anything new to find.
  bool recover_when_idle() noexcept;
  LeaseRingHeader& header() const noexcept { return *header_; }
  std::uint32_t capacity() const noexcept { return static_cast<std::uint32_t>(mask_ + 1); }
  void wait_strategy(WaitStrategy strategy) noexcept { strategy_ = strategy; }

  /// Frees and returns all that `dead` held, and wakes everybody.
  static void repair(std::span<std::byte> memory, const Dead& dead) noexcept;

 private:
  static LeaseNote& note(const LeaseSlot& slot) noexcept {
    return *reinterpret_cast<LeaseNote*>(const_cast<LeaseSlot*>(&slot + 1));
  }
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
  void name(Lease& out, LeaseSlot& slot, LeaseWord held, std::uint64_t ticket) const noexcept;
  void hand_out(Lease& out, LeaseSlot& slot, LeaseWord leased, std::uint64_t ticket) const noexcept;
  bool take_at_rest(Lease& out, LeaseSlot& slot, LeaseWord word) noexcept;
  bool is_due(const LeaseSlot& slot) const noexcept;
  void park(LeaseSlot& slot, LeaseWord queued, std::uint64_t ticket) noexcept;
  void sign(Lease& lease) const noexcept;
  bool expire(LeaseSlot& slot, std::int64_t now_ns) noexcept;
  Status walk_to_task(Lease& out, std::uint64_t ticket) noexcept;
  bool go_past_filling(LeaseSlot& slot, LeaseWord filling, std::uint64_t ticket) noexcept;
  bool queued_after(std::uint64_t ticket) const noexcept;
  bool caught_up() noexcept;
  bool scan_returned(Lease& out) noexcept;
  Status drain(Lease& out) noexcept;

  void opened_way(std::uint64_t ticket) noexcept;
  bool recover_in_the_way() noexcept;
  bool recover_holders() noexcept;

  // Fixed: private copies of what was checked.
  LeaseRingHeader* header_;
  std::byte* slots_;
  std::size_t stride_;
  std::size_t payload_at_;
  std::uint64_t mask_;
  unsigned shift_;
  int patience_;  ///< pauses that a consumer grants a producer before it goes past it
  Peers* peers_;
  Event* not_empty_;
  bool has_notes_;
  std::uint32_t max_tries_;
  std::int64_t lease_timeout_ms_;
  std::uint32_t process_;  ///< our process id, for notes
  WaitStrategy strategy_ = WaitStrategy::adaptive;

  std::uint64_t tail_ = 0;           ///< producers have passed all tickets below
  std::uint64_t head_ = 0;           ///< consumers have passed all tickets below
  std::uint64_t returned_seen_ = 0;  ///< the ring was scanned since `returned` was this
  std::uint64_t scanning_for_ = 0;   ///< what `returned` was when the present scan began
  std::uint64_t scanned_ = 0;        ///< slots of the present scan; 0: none is going on
  std::uint64_t drained_ = 0;        ///< slots below are empty for good
  std::uint32_t draining_ = 0;       ///< the phase in which they are
  std::uint64_t look_at_ = 0;        ///< where recover_holders goes on
  std::int64_t looked_ = 0;          ///< when
  std::uint32_t streak_ = 0;         ///< tasks taken since nothing was there
  std::uint32_t idle_ = 0;           ///< times that nothing was there
  Owner in_the_way_ = nobody;        ///< of the FILLING slot that made the ring full
  bool all_held_ = false;            ///< the ring is full of leases
};

/// A slot that its taker fills, once it is taken: until then nothing stands in here. It must end in one commit or cancel.
class LeaseRing::Reservation {
 public:
  std::byte* payload() const noexcept { return reinterpret_cast<std::byte*>(slot_) + payload_at_; }
  std::uint64_t ticket() const noexcept { return slot_->ticket.load(relaxed); }
  /// When it is pushed, and not to be leased before. For a ring with notes.
  void date(std::int64_t now_ns, std::int64_t due_ns) const noexcept {
    note(*slot_).pushed_at.store(static_cast<std::uint64_t>(now_ns), relaxed);
    note(*slot_).due.store(static_cast<std::uint64_t>(due_ns), relaxed);
    // None yet: not that of an older task. QUEUE-8
    note(*slot_).reason_grant.store(0, release("QUEUE.filling"));
  }

  /// Publishes the payload. closed in a forked child, lost_lease if we were taken for dead.
  Status commit() const noexcept {
    if (!peers_->present()) return Status::closed;
    std::uint64_t expected = filling_.bits();
    const LeaseWord queued = filling_.as(LeaseState::queued, nobody);
    if (!slot_->word.compare_exchange(expected, queued.bits(), seq_cst("QUEUE.commit"))) {
      return commit_late(LeaseWord(expected));
    }
    not_empty_->notify_one_after_rmw();
    return Status::ready;
  }
  /// Gives the slot back.
  Status cancel() const noexcept;

 private:
  friend LeaseRing;
  Status commit_late(LeaseWord word) const noexcept;

  LeaseRingHeader* ring_;
  Event* not_empty_;
  Peers* peers_;
  LeaseSlot* slot_;
  LeaseWord filling_{0};
  std::size_t payload_at_;
};

/// A task that its taker works on, once it is leased: until then nothing stands in here. It must end in one of complete and give_back, or in
/// begin_ending and then end_done, or in fail. Each answers ready; lost_lease if others have
/// it; closed in a forked child.
class LeaseRing::Lease {
 public:
  const std::byte* payload() const noexcept {
    return reinterpret_cast<const std::byte*>(slot_) + payload_at_;
  }
  std::uint64_t ticket() const noexcept { return ticket_; }
  std::uint64_t tries() const noexcept { return leased_.grant(); }

  /// The task is done.
  Status complete() const noexcept {
    if (!peers_->present()) return Status::closed;
    std::uint64_t expected = leased_.bits();
    const LeaseWord free(leased_.cycle(), 0, nobody, LeaseState::free);
    if (!slot_->word.compare_exchange(expected, free.bits(), seq_cst("QUEUE.free"))) {
      return change(LeaseState::leased, LeaseState::free);
    }
    tell(*ring_, *not_empty_, LeaseState::free);
    return Status::ready;
  }
  /// Others may have the task at once; or it is a dead letter, if this was its last try.
  Status give_back() const noexcept { return end_in_vain(LeaseState::leased); }

  // The end of a dead letter that is held (hold_letter).
  Status drop_letter() const noexcept { return change(LeaseState::dead, LeaseState::free); }
  /// It has all its tries before it.
  Status retry_letter() const noexcept { return change(LeaseState::dead, LeaseState::requeue); }
  /// It is one as before.
  Status put_back_letter() const noexcept { return change(LeaseState::dead, LeaseState::dead); }

  /// From here on nobody takes the task from us unless we die: what we write before its end is written
  /// once a try.
  Status begin_ending() const noexcept { return change(LeaseState::leased, LeaseState::ending); }
  /// The task is done.
  Status end_done() const noexcept { return change(LeaseState::ending, LeaseState::free); }
  /// It has failed. Others may have it, after `delay`; or it is a dead letter, if this was its last try.
  /// The reason is cut after LeaseNote::reason_bytes. Without notes: give_back.
  Status fail(std::string_view reason, std::chrono::nanoseconds delay) const noexcept;
  /// Begins the lease timeout anew, if the ring has one.
  Status extend() const noexcept;
  Owner owner() const noexcept { return leased_.owner(); }

 private:
  friend LeaseRing;
  static void tell_returned(LeaseRingHeader& ring, Event& not_empty) noexcept;
  static void tell(LeaseRingHeader& ring, Event& not_empty, LeaseState now) noexcept {
    if (now == LeaseState::free) ring.not_full.notify_one_after_rmw();
    if (now == LeaseState::requeue) tell_returned(ring, not_empty);
    // QUEUE-5: a drainer may wait for this very slot.
    if (lease_phase(ring.phase.load(relaxed)) != LeasePhase::open) not_empty.notify_all();
  }
  Status change(LeaseState from, LeaseState to) const noexcept;
  Status end_in_vain(LeaseState from) const noexcept;
  bool is(LeaseState state, LeaseWord word) const noexcept;
  LeaseStamp stamp() const noexcept { return {monotonic_ns(), leased_, ticket_ >> shift_}; }

  LeaseRingHeader* ring_;
  Event* not_empty_;
  Peers* peers_;
  LeaseSlot* slot_;
  LeaseWord leased_{0};
  std::uint64_t ticket_;
  std::uint32_t payload_at_;
  std::uint32_t max_tries_;  ///< this and the next one only with a note
  unsigned shift_;
  bool has_note_;
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
  // QUEUE-8: who sees this ticket, or the note, beside an older word sees the claim. -> QUEUE.report
  slot.ticket.store(free.cycle() << shift_ | (ticket & mask_), release("QUEUE.filling"));
  out.ring_ = header_;
  out.not_empty_ = not_empty_;
  out.peers_ = peers_;
  out.slot_ = &slot;
  out.filling_ = filling;
  out.payload_at_ = payload_at_;
  // QUEUE-5: looked at after the claim, whose acquire a drainer's look at this word has fed.
  if (lease_phase(header_->phase.load(relaxed)) == LeasePhase::open) return Status::ready;
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

inline void LeaseRing::name(Lease& out, LeaseSlot& slot, LeaseWord held,
                            std::uint64_t ticket) const noexcept {
  out.ring_ = header_;
  out.not_empty_ = not_empty_;
  out.peers_ = peers_;
  out.slot_ = &slot;
  out.leased_ = held;
  out.ticket_ = ticket;
  out.payload_at_ = static_cast<std::uint32_t>(payload_at_);
  out.has_note_ = has_notes_;
}

inline void LeaseRing::hand_out(Lease& out, LeaseSlot& slot, LeaseWord leased,
                                std::uint64_t ticket) const noexcept {
  name(out, slot, leased, ticket);
  if (has_notes_) sign(out);
}

inline bool LeaseRing::take(Lease& out, LeaseSlot& slot, LeaseWord queued,
                            std::uint64_t ticket) noexcept {
  std::uint64_t expected = queued.bits();
  const LeaseWord leased = queued.next_cycle().leased_to(peers_->self());
  if (!slot.word.compare_exchange(expected, leased.bits(), seq_cst("QUEUE.lease"))) return false;
  head_ = ticket + 1;
  header_->head.store(head_, release("QUEUE.head"));  // QUEUE-7
  ++streak_;
  hand_out(out, slot, leased, queued.cycle() << shift_ | (ticket & mask_));
  if (header_->not_full.has_sleepers_after_rmw()) opened_way(head_);
  return true;
}

inline Status LeaseRing::find_task(Lease& out) noexcept {
  if (!peers_->present()) return Status::closed;
  const std::uint64_t ticket = later(head_, header_->head.load(acquire("QUEUE.head")));  // QUEUE-7
  LeaseSlot& slot = at(ticket);
  const LeaseWord word(slot.word.load(relaxed));
  if (word == LeaseWord(cycle_of(ticket), 0, nobody, LeaseState::queued) && !has_notes_ &&
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

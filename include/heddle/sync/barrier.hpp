#pragma once

// Barrier: nobody passes an epoch before every living member has arrived at it.
//
// Who may call    join: any participant.  Party: one thread at a time; a process may hold several
// Progress        arrive, leave: lock-free.  wait: blocks for living parties only, to its deadline
// State           outcome  {epoch:54, died:10}             the last epoch that ended, and how
//                 place    {arrived:53, gone:1, owner:10}  one for each party
//                 branch   {epoch:54, died:10}             of a barrier for many: the same of sixteen places
//                 Open is the epoch outcome.epoch + 1. A place is in its way when it has an owner
//                 that is not gone and `arrived` is less than it. So membership needs no words:
//                   join    claims a place, as one that has arrived at the open epoch
//                   leave   the owner becomes nobody: it has arrived for ever
//                   death   gone is set, and `arrived` says which epoch the dead has missed
// Invariants      BARRIER-1  an epoch ends once, by one CAS that tells everybody the same
//                 BARRIER-2  and not before every member has arrived at it, left, or died
//                 BARRIER-3  its outcome stays until every living member has seen it (they arrive
//                            at the next epoch only then, and by BARRIER-2 it ends no sooner)
//                 BARRIER-4  `arrived` of a place never falls; a claim of a gone place raises it
//                 BARRIER-5  the time before the first epoch ends when the first `parties` places are
//                            taken, and until then no others are: so whoever was the first to take
//                            one of them (stamp 1) was counted, and is waited for in epoch 1
//                 BARRIER-6  a branch names an epoch only when no member in it is in that one's way any
//                            more. So whoever looks may take its word for its places, and need not
// Edges           .arrive .claim .leave .gone -> .scan, .end -> .pass: what was done before the end
//                 of an epoch is seen after it; where there are branches .scan -> .sum -> .summed -> .end
//                 arrive, fence -> scan | arrive, fence -> scan: of two last ones, one sees both
//                 claim, fence -> outcome | outcome, fence -> scan: a newcomer is seen, or sees
//                 that it may have been overlooked
//                 recycle: a gone place is claimed when the epoch that it missed has ended
// On death        before its arrival: the epoch ends without it, and says so.  After it: the epoch
//                 ends well, the next one says so.  Last to arrive, but before it ended the epoch:
//                 anyone ends it.  In join: nothing is left, or a party that has arrived
// Not for         a thread that stops while its process lives
// More            docs/barrier.md: the argument for each, and what differs from the design's draft

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "heddle/base/atomic.hpp"
#include "heddle/base/clock.hpp"
#include "heddle/base/error.hpp"
#include "heddle/base/wait.hpp"
#include "heddle/shm/object.hpp"
#include "heddle/shm/peers.hpp"

namespace heddle {

class Barrier {
 public:
  enum class OnDeath : std::uint32_t {
    report,  ///< the epoch that a dead member missed answers peer_died to every survivor
    shrink,  ///< it answers ready; `died` names the dead all the same
  };

  struct Options {
    std::uint32_t parties = 0;      ///< the first epoch opens when so many have joined
    std::uint32_t max_parties = 0;  ///< 0: twice as many; at most 2,048. A dead member keeps its
                                    ///< place until the epoch that it missed has ended
    OnDeath on_death = OnDeath::report;
  };

  struct Outcome {
    Status status = Status::closed;  ///< ready, peer_died, timeout or closed
    std::uint64_t epoch = 0;         ///< counts from 1; the same for all who pass together
    Owner died;                      ///< one of those that died before they arrived; else nobody
  };

  class Party;

  static constexpr ObjectKind kind = ObjectKind::barrier;
  static constexpr ElementType element() { return {}; }
  static std::size_t bytes(const Options& options);
  static void format(std::span<std::byte> memory, const Options& options);
  /// How it was made otherwise, as in "it has 3 parties, not 4".
  static std::string difference(std::span<std::byte> memory, const Options& options);
  Barrier(std::span<std::byte> memory, Peers& peers);
  static void repair(std::span<std::byte> memory, const Dead& dead) noexcept;

  /// Takes a place. The open epoch does not wait for the newcomer, who arrives first at the next.
  /// The first epoch opens when `parties` have joined, and waits for them; until then newcomers take
  /// over the places of those that died or left (and may find that it has opened without them). Throws Error: too_many when each place has a living owner; timeout when
  /// those of the dead do not come free in time; closed in a forked child.
  Party join(Deadline deadline = Deadline::never());

  /// The last epoch that ended; 0 before the first.
  std::uint64_t epoch() const noexcept { return number(epoch_of(look())); }
  /// How many have a place and are not known to be dead.
  std::uint32_t members() const noexcept;
  /// Who is in the way of the open epoch; `nobody` stands for one who has yet to join. Writes as
  /// many as there is room for, returns how many there are. For messages: not a hot path.
  std::size_t missing(std::span<Owner> owners) const noexcept;

 private:
  friend struct LayoutOf;  // pins it: tests/unit/shm/layout_test.cpp
  using Word = Atomic<std::uint64_t>;

  // Epochs up to `gathering` are the time before the first one. Its claims count `arrived` up from
  // 1, so that places change hands in it and BARRIER-4 holds.
  static constexpr std::uint64_t gathering = 1U << 20;
  static constexpr std::uint64_t number(std::uint64_t epoch) {  // as callers count
    return std::max(epoch, gathering) - gathering;
  }

  static constexpr std::uint64_t owner_mask = 0x3ff;
  static constexpr std::uint64_t gone_bit = owner_mask + 1;
  static constexpr std::uint64_t outcome_word(std::uint64_t epoch, Owner died) {
    return epoch << 10 | died.bits();
  }
  static constexpr std::uint64_t epoch_of(std::uint64_t outcome) { return outcome >> 10; }
  static constexpr std::uint64_t place_word(std::uint64_t stamp, Owner owner) {
    return stamp << 11 | owner.bits();
  }
  static constexpr std::uint64_t stamp_of(std::uint64_t place) { return place >> 11; }
  static constexpr std::uint64_t arrived_of(std::uint64_t place) {
    return std::max(stamp_of(place), gathering);
  }
  static constexpr Owner owner_of(std::uint64_t word) { return Owner(word & owner_mask); }
  static constexpr bool is_gone(std::uint64_t place) { return (place & gone_bit) != 0; }
  static constexpr bool in_the_way(std::uint64_t place, std::uint64_t open) {
    return owner_of(place) && !is_gone(place) && arrived_of(place) < open;
  }

  static constexpr std::uint32_t few = 7;
  static constexpr std::uint32_t most_places = 2048;
  // More places than these have branches of so many each (docs/barrier.md has the measurement).
  static constexpr std::uint32_t most_flat = 32;
  static constexpr std::uint32_t branch_places = 16;
  static constexpr std::size_t far_stride = 64 / sizeof(Word);
  struct Shared {
    std::uint32_t max_parties;  // these three never change
    std::uint32_t parties;
    OnDeath on_death;
    Atomic<std::uint32_t> used;  // places that were ever claimed; only rises
    Event changed;
    alignas(64) Word outcome;
    // The places of a barrier for few: one line holds all that a round touches (27 ns instead of 77
    // for two). Many parties would take it out of each other's hands, so theirs follow behind this
    // struct, each on its own line.
    Word near_places[few];
  };
  static_assert(sizeof(Shared) == 128 && offsetof(Shared, used) == 12);
  static_assert(offsetof(Shared, changed) == 16 && offsetof(Shared, outcome) == 64);
  static_assert(offsetof(Shared, near_places) == 72);

  static constexpr std::uint32_t places_for(const Options& options) {
    const std::uint64_t twice = std::uint64_t{2} * options.parties;
    return options.max_parties != 0
               ? options.max_parties
               : static_cast<std::uint32_t>(std::min<std::uint64_t>(twice, most_places));
  }
  static constexpr std::size_t branches_for(std::size_t places) {
    return places <= most_flat ? 0 : (places + branch_places - 1) / branch_places;
  }
  static constexpr std::size_t bytes_for(std::size_t places) {
    const std::size_t lines = places <= few ? 0 : places + branches_for(places);
    return sizeof(Shared) + lines * far_stride * sizeof(Word);
  }

  struct Scan {
    bool over = false;        // nobody living is in the way
    Owner died;               // a member that is gone and has missed this epoch
    std::uint32_t taken = 0;  // places that nobody has to take any more: before the first epoch
  };

  Barrier() = default;

  std::uint64_t look() const noexcept {
    return shared_->outcome.load(acquire("BARRIER.pass"));  // <- BARRIER.end
  }
  Word& place(std::uint32_t i) const noexcept { return places_[i * stride_]; }

  std::uint32_t used() const noexcept {
    return std::min(shared_->used.load(relaxed), max_parties_);
  }

  /// Looks at these places; false at the first that is in the way.
  bool pass(std::uint64_t open, std::uint32_t begin, std::uint32_t end, Scan& seen) const noexcept {
    for (std::uint32_t i = begin; i < end; ++i) {
      const std::uint64_t word = place(i).load(acquire("BARRIER.scan"));  // <- BARRIER.arrive ...
      if (!owner_of(word)) continue;
      const std::uint64_t arrived = arrived_of(word);
      if (arrived >= open) {
        ++seen.taken;
      } else if (!is_gone(word)) {
        return false;
      } else if (arrived + 1 == open && !seen.died) {
        seen.died = owner_of(word);
      }
    }
    return true;
  }

  Scan scan(std::uint64_t open) const noexcept {
    Scan seen;
    if (!pass(open, 0, used(), seen)) return seen;
    seen.over = open != gathering || seen.taken >= parties_;
    return seen;
  }
  Scan scan_branches(std::uint64_t open, const Word* mine) noexcept;

  /// Ends the epoch after the outcome `before`, which the caller has read, if nobody living is in
  /// the way. Anyone may, at any time. Returns the newest outcome that it knows. `mine`: the place
  /// that the caller has changed, where there is one.
  std::uint64_t advance(std::uint64_t before, const Word* mine = nullptr) noexcept {
    const std::uint64_t open = epoch_of(before) + 1;
    fence(seq_cst("BARRIER.before_scan"));  // the caller's change and `before`, then the places
    const Scan seen = branches_ == nullptr ? scan(open) : scan_branches(open, mine);
    if (!seen.over) return before;
    const std::uint64_t after = outcome_word(open, seen.died);
    // BARRIER-1. Passes on what the scan has acquired from every arrival. -> BARRIER.pass
    if (!shared_->outcome.compare_exchange(before, after, release("BARRIER.end"))) return look();
    shared_->changed.notify_all();
    return after;
  }

  bool attach(std::span<std::byte> memory) noexcept;
  Word* claim(std::uint64_t open) noexcept;
  void probe(std::uint32_t& from) noexcept;

  Peers* peers_ = nullptr;
  Shared* shared_ = nullptr;
  // Private, since checked on attaching.
  Word* places_ = nullptr;
  Word* branches_ = nullptr;  // a line for each; none where there are few places
  std::size_t stride_ = 1;    // from one place to the next, in words
  std::uint32_t max_parties_ = 0;
  std::uint32_t parties_ = 0;
  OnDeath on_death_ = OnDeath::report;
};

/// A member's handle. Leaves when it is destroyed. In a forked child it answers `closed`.
class Barrier::Party {
 public:
  Party() = default;  ///< of no barrier: answers `closed`
  Party(Party&& other) noexcept { *this = std::move(other); }
  Party& operator=(Party&& other) noexcept {
    if (this == &other) return *this;
    leave();
    barrier_ = other.barrier_;
    place_ = std::exchange(other.place_, nullptr);
    outcome_ = other.outcome_;
    arrived_ = other.arrived_;
    target_ = other.target_;
    pending_ = other.pending_;
    probed_ = other.probed_;
    slow_epoch_ = other.slow_epoch_;
    slow_since_ = other.slow_since_;
    patience_ = other.patience_;
    return *this;
  }
  ~Party() { leave(); }

  /// Arrives, unless an earlier arrival still waits for its epoch's end, and waits. Peer_died: this
  /// epoch has ended, for all survivors in the same way, and the next is open to them.
  Outcome arrive_and_wait(Deadline deadline = Deadline::never(),
                          WaitStrategy strategy = WaitStrategy::adaptive) noexcept {
    if (const Status status = arrive(); status != Status::ready) return {status, 0, nobody};
    return wait(deadline, strategy);
  }

  /// Split phase: says that this party has arrived; a wait must follow. Does nothing when one is
  /// due already. Answers ready or closed.
  Status arrive() noexcept {
    if (!is_member()) return Status::closed;
    if (pending_) return Status::ready;
    pending_ = true;
    target_ = arrived_ + 1;  // BARRIER-3: only who has seen an outcome arrives at the next epoch
    if (epoch_of(outcome_) < arrived_) outcome_ = barrier_.look();
    if (epoch_of(outcome_) >= arrived_) announce();  // else a newcomer: wait() will
    return Status::ready;
  }

  /// Waits for the end of the epoch arrived at; a newcomer that has not arrived yet, for that of
  /// the one it joined in. After a timeout the arrival counts all the same, and one may wait again.
  Outcome wait(Deadline deadline = Deadline::never(),
               WaitStrategy strategy = WaitStrategy::adaptive) noexcept {
    if (!is_member()) return {Status::closed, 0, nobody};
    const auto ended = [this] {
      if (epoch_of(outcome_) >= target_) return true;
      outcome_ = barrier_.look();
      if (arrived_ < target_ && epoch_of(outcome_) >= arrived_) announce();
      return epoch_of(outcome_) >= target_;
    };
    const auto probe = [this] {
      if (patience_.may_look()) barrier_.probe(probed_);
      return Status::ready;
    };
    const Status status =
        wait_for(barrier_.shared_->changed, deadline, strategy, ended, probe, &patience_);
    const std::uint64_t epoch = number(target_);
    if (status != Status::ready) {
      if (slow_epoch_ != target_) {
        slow_epoch_ = target_;
        slow_since_ = deadline.is_now() ? monotonic_ns() : patience_.lost_at();
      }
      return {status, epoch, nobody};
    }
    pending_ = false;
    const Owner died = owner_of(outcome_);
    const bool broken = died && barrier_.on_death_ == OnDeath::report;
    return {broken ? Status::peer_died : Status::ready, epoch, died};
  }

  /// After a timeout: how long ago this party began to wait for the epoch that still is open. Who is
  /// `missing` has kept it waiting for so long. Zero when no wait is due or none has ended so yet.
  std::chrono::nanoseconds waited() const noexcept {
    const bool waits =
        is_member() && target_ != 0 && slow_epoch_ == target_ && epoch_of(outcome_) < target_;
    return std::chrono::nanoseconds(waits ? monotonic_ns() - slow_since_ : 0);
  }

  /// Arrives for good: the open epoch does not wait for this party, and the next ones neither.
  void leave() noexcept {
    if (is_member()) {
      const std::uint64_t stamp = stamp_of(place_->load(relaxed));
      place_->store(place_word(stamp, nobody), release("BARRIER.leave"));  // -> BARRIER.scan
      barrier_.advance(barrier_.look(), place_);
    }
    place_ = nullptr;
  }

  bool is_member() const noexcept { return place_ != nullptr && barrier_.peers_->present(); }
  /// Less than max_parties; no two members have the same at a time.
  std::uint32_t place() const noexcept {
    const auto words = static_cast<std::size_t>(place_ - barrier_.places_);
    return static_cast<std::uint32_t>(words / barrier_.stride_);
  }

 private:
  friend class Barrier;

  void announce() noexcept {
    arrived_ = target_;
    // A plain store, since nobody else changes the word while its owner lives. -> BARRIER.scan
    place_->store(place_word(arrived_, barrier_.peers_->self()), release("BARRIER.arrive"));
    outcome_ = barrier_.advance(outcome_, place_);
  }

  Barrier barrier_;
  Word* place_ = nullptr;
  std::uint64_t outcome_ = 0;     // the newest that was seen
  std::uint64_t arrived_ = 0;     // as the place says, but at least `gathering`
  std::uint64_t target_ = 0;      // the epoch to wait for
  bool pending_ = false;          // a wait is due
  std::uint32_t probed_ = 0;      // where the next look after the missing begins
  std::uint64_t slow_epoch_ = 0;  // the last epoch that a wait has not seen end
  std::int64_t slow_since_ = 0;   // when the first wait for it began
  Patience patience_;
};

static_assert(SharedObject<Barrier>);

}  // namespace heddle

#pragma once

// The memory of a lease ring: one word for each slot says whose the slot is. lease_ring.hpp has
// the contract and the table of who may change it.
//
//   0     LeaseRingHeader   shape and control (one line), tail (two lines), head, counters
//   320   slots[capacity]   each {word:64, ticket:64, LeaseNote if the ring has notes, payload};
//                           stride = 16 (80 with a note) + payload, to 8
//
// A ticket t is a place in the endless sequence of pushes: slot t mod capacity in cycle
// t / capacity. Tickets and cycles wrap (a cycle has 40 bits) and compare by signed difference.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <type_traits>

#include "heddle/base/atomic.hpp"
#include "heddle/base/wait.hpp"
#include "heddle/shm/peers.hpp"

namespace heddle {

/// Stored in shared memory: never renumber.
enum class LeaseState : std::uint8_t {
  free = 0,       ///< nothing here; the ticket (cycle, slot) may be pushed
  filling = 1,    ///< owner, a producer, writes the payload
  queued = 2,     ///< a task that nobody has had yet
  leased = 3,     ///< owner, a worker, has it; for the grant-th time
  abandoned = 4,  ///< as filling, but consumers have gone past it
  requeue = 5,    ///< a task that consumers have gone past: returned, delayed, or committed late
  ending = 6,     ///< owner, its worker, writes down how it ended: no lease timeout, nobody else's
  dead = 7,       ///< a dead letter: no more tries, until somebody asks. owner: who is about to
};

/// {cycle:40, grant:11, owner:10, state:3}, cycle in the high bits.
class LeaseWord {
 public:
  static constexpr std::uint64_t cycle_mask = (std::uint64_t{1} << 40) - 1;
  static constexpr std::uint64_t last_grant = 2047;

  constexpr explicit LeaseWord(std::uint64_t bits) : bits_(bits) {}
  constexpr LeaseWord(std::uint64_t cycle, std::uint64_t grant, Owner owner, LeaseState state)
      : bits_(cycle << 24 | grant << 13 | owner.bits() << 3 | static_cast<std::uint64_t>(state)) {}

  constexpr std::uint64_t bits() const { return bits_; }
  constexpr std::uint64_t cycle() const { return bits_ >> 24; }
  constexpr std::uint64_t grant() const { return bits_ >> 13 & 2047; }
  constexpr Owner owner() const { return Owner(bits_ >> 3 & 1023); }
  constexpr LeaseState state() const { return static_cast<LeaseState>(bits_ & 7); }

  /// Cycles by which the word is ahead of `cycle`; negative when behind.
  constexpr std::int64_t ahead_of(std::uint64_t cycle) const {
    return static_cast<std::int64_t>((bits_ & ~std::uint64_t{0xffffff}) - (cycle << 24)) >> 24;
  }
  constexpr LeaseWord next_cycle() const { return LeaseWord(bits_ + (std::uint64_t{1} << 24)); }
  constexpr LeaseWord as(LeaseState state, Owner owner) const {
    return LeaseWord(cycle(), grant(), owner, state);
  }
  /// The count of an item's leases goes on past its end, as "1,024 or more": it must change.
  constexpr LeaseWord leased_to(Owner owner) const {
    const std::uint64_t next = grant() == last_grant ? 1024 : grant() + 1;
    return LeaseWord(cycle(), next, owner, LeaseState::leased);
  }

  /// As before the lease that it names. Only its owner does this, and names that lease no more; what it
  /// names next is the same again. (Repair never does: see Dead.)
  constexpr LeaseWord not_leased() const {
    return LeaseWord(cycle(), grant() - 1, owner(), state());
  }

  /// Whether the try that it names was the last. One that is tried anew gets as many again.
  constexpr bool is_last_of(std::uint32_t max_tries) const {
    return max_tries != 0 && grant() % max_tries == 0;
  }

  friend constexpr bool operator==(LeaseWord, LeaseWord) = default;

 private:
  std::uint64_t bits_;
};

struct LeaseSlot {
  Atomic<std::uint64_t> word;
  Atomic<std::uint64_t> ticket;  ///< of the task in it: its id. Written by filling's owner
  // and the note, and the payload
};
static_assert(sizeof(LeaseSlot) == 16 && std::is_standard_layout_v<LeaseSlot>);

/// What a ring with notes knows of a task beside its word. Times are those of monotonic_ns.
struct LeaseNote {
  static constexpr std::size_t reason_bytes = 32;

  Atomic<std::uint64_t> due;           ///< not leased before. Owner of filling, or of ending
  Atomic<std::uint64_t> pushed_at;     ///< owner of filling
  Atomic<std::uint64_t> leased_at;     ///< LeaseStamp. Its worker, or who finds it without
  Atomic<std::uint32_t> worker;        ///< process id of its last worker; it may be late by one
  Atomic<std::uint32_t> reason_grant;  ///< the try that gave the reason, or 0. As due
  std::byte reason[reason_bytes];      ///< text, padded with zeroes
};
static_assert(sizeof(LeaseNote) == 64 && std::is_standard_layout_v<LeaseNote>);

/// When a delay that begins now is over, for LeaseNote::due; at once, if it is none.
constexpr std::int64_t due_after(std::chrono::nanoseconds delay, std::int64_t now_ns) {
  constexpr std::int64_t never = std::numeric_limits<std::int64_t>::max();
  if (delay.count() <= 0) return 0;
  return delay.count() < never - now_ns ? now_ns + delay.count() : never;
}

/// {milliseconds:40, grant:11, cycle of the ticket:13}. It counts for the one lease that it names: who
/// has lost its lease may write it late.
class LeaseStamp {
 public:
  constexpr explicit LeaseStamp(std::uint64_t bits) : bits_(bits) {}
  constexpr LeaseStamp(std::int64_t now_ns, LeaseWord leased, std::uint64_t ticket_cycle)
      : bits_(static_cast<std::uint64_t>(now_ns / 1'000'000) << 24 | leased.grant() << 13 |
              (ticket_cycle & 8191)) {}
  constexpr std::uint64_t bits() const { return bits_; }
  constexpr bool same_lease(LeaseStamp other) const {
    return ((bits_ ^ other.bits_) & 0xffffff) == 0;
  }
  constexpr std::int64_t ms_since(LeaseStamp older) const {
    return static_cast<std::int64_t>(bits_ >> 24) - static_cast<std::int64_t>(older.bits_ >> 24);
  }

 private:
  std::uint64_t bits_;
};

struct LeaseRingHeader {
  std::uint32_t capacity;  ///< a power of two; this and the next two are fixed by format
  std::uint32_t payload_bytes;
  std::uint32_t payload_alignment;
  Atomic<std::uint32_t> phase;     ///< {how often it was reopened:30, LeasePhase:2}
  Event not_empty;                 ///< for consumers: a task has come, or the queue was closed
  Event not_full;                  ///< for producers: a slot has become free, or the same
  Atomic<std::uint64_t> returned;  ///< how often a task was put behind the backs of consumers
  std::uint64_t lease_timeout_ms;  ///< 0: none. Fixed by format, as all that follows in this line
  std::uint32_t max_tries;         ///< 0: any number
  std::uint32_t notes;             ///< 1: each slot has a LeaseNote
  std::uint32_t lanes;             ///< these three are QueueCore's
  std::uint32_t results;
  std::uint32_t result_bytes;
  std::uint32_t reserved_0;
  Atomic<std::uint64_t> tail;  ///< hint: producers have passed all tickets below. Producers' line
  std::uint64_t reserved_1[15];
  Atomic<std::uint64_t> head;  ///< hint: consumers have passed all tickets below. Consumers' line
  std::uint64_t reserved_2[7];
  // Since the ring was made; by relaxed additions, off the common path.
  Atomic<std::uint64_t> abandoned;        ///< producers that consumers have gone past
  Atomic<std::uint64_t> skipped;          ///< slots that producers have gone past: long leases
  Atomic<std::uint64_t> recovered;        ///< slots taken from the dead
  Atomic<std::uint64_t> expired;          ///< leases taken from the living
  Atomic<std::uint64_t> died;             ///< tasks that became dead letters
  Atomic<std::uint64_t> results_expired;  ///< results that nobody had read when others came
  std::uint64_t reserved_3[2];
};
static_assert(sizeof(LeaseRingHeader) == 320 && std::is_standard_layout_v<LeaseRingHeader>);
static_assert(offsetof(LeaseRingHeader, returned) == 24 && offsetof(LeaseRingHeader, tail) == 64 &&
              offsetof(LeaseRingHeader, head) == 192 &&
              offsetof(LeaseRingHeader, abandoned) == 256);

enum class LeasePhase : std::uint32_t {
  open = 0,
  closed = 1,   ///< nothing is pushed any more
  drained = 2,  ///< and there is no task left
};
constexpr LeasePhase lease_phase(std::uint32_t word) { return static_cast<LeasePhase>(word & 3); }

/// What a ring's size and addresses depend on.
struct LeaseRingShape {
  static constexpr std::uint32_t least_capacity = 64;
  static constexpr std::uint32_t most_capacity = 1U << 24;
  static constexpr std::uint32_t most_payload = 1U << 30;
  static constexpr std::uint32_t most_tries = 1000;
  static constexpr std::uint64_t most_timeout_ms = 1'000'000'000;

  std::uint32_t capacity = 1024;  ///< slots: a power of two; well above tasks waiting + leased
  std::uint32_t payload_bytes = 0;
  std::uint32_t payload_alignment = 8;  ///< a power of two, at most 64
  bool notes = false;                   ///< the rest needs them
  std::uint32_t max_tries = 0;          ///< then it is a dead letter. 0: never
  std::uint64_t lease_timeout_ms = 0;   ///< 0: a lease lasts as long as its worker

  constexpr bool valid() const {
    const auto power = [](std::uint32_t n) { return n != 0 && (n & (n - 1)) == 0; };
    return power(capacity) && capacity >= least_capacity && capacity <= most_capacity &&
           payload_bytes <= most_payload && power(payload_alignment) && payload_alignment <= 64 &&
           max_tries <= most_tries && lease_timeout_ms <= most_timeout_ms &&
           (notes || (max_tries == 0 && lease_timeout_ms == 0));
  }
  constexpr std::size_t payload_at() const {
    return rounded(sizeof(LeaseSlot) + (notes ? sizeof(LeaseNote) : 0));
  }
  constexpr std::size_t stride() const { return rounded(payload_at() + payload_bytes); }
  constexpr std::size_t bytes() const { return sizeof(LeaseRingHeader) + stride() * capacity; }

  /// That of the ring in `memory`; nothing if none of that shape fits there.
  static std::optional<LeaseRingShape> of(std::span<const std::byte> memory) noexcept;

 private:
  constexpr std::size_t rounded(std::size_t bytes) const {
    const std::size_t unit = payload_alignment < 8 ? 8 : payload_alignment;
    return (bytes + unit - 1) / unit * unit;
  }
};

}  // namespace heddle

#pragma once

// The memory of a lease ring: one word for each slot says whose the slot is. lease_ring.hpp has
// the contract and the table of who may change it.
//
//   0     LeaseRingHeader   shape and control (one line), tail (two lines), head (two lines)
//   320   slots[capacity]   each {word:64, ticket:64, payload}; stride = 16 + payload, to 8
//
// A ticket t is a place in the endless sequence of pushes: slot t mod capacity in cycle
// t / capacity. Tickets and cycles wrap (a cycle has 40 bits) and compare by signed difference.

#include <cstddef>
#include <cstdint>
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
  requeue = 5,    ///< a task that consumers have gone past: returned, or committed late
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

  friend constexpr bool operator==(LeaseWord, LeaseWord) = default;

 private:
  std::uint64_t bits_;
};

struct LeaseSlot {
  Atomic<std::uint64_t> word;
  Atomic<std::uint64_t> ticket;  ///< of the task in it: its id. Written by filling's owner
  // and the payload
};
static_assert(sizeof(LeaseSlot) == 16 && std::is_standard_layout_v<LeaseSlot>);

struct LeaseRingHeader {
  std::uint32_t capacity;  ///< a power of two; this and the next two are fixed by format
  std::uint32_t payload_bytes;
  std::uint32_t payload_alignment;
  Atomic<std::uint32_t> phase;     ///< LeasePhase
  Event not_empty;                 ///< for consumers: a task has come, or the queue was closed
  Event not_full;                  ///< for producers: a slot has become free, or the same
  Atomic<std::uint64_t> returned;  ///< how often a task was put behind the backs of consumers
  std::uint64_t reserved_0[4];
  Atomic<std::uint64_t> tail;  ///< hint: producers have passed all tickets below. Producers' line
  std::uint64_t reserved_1[15];
  Atomic<std::uint64_t> head;  ///< hint: consumers have passed all tickets below. Consumers' line
  std::uint64_t reserved_2[15];
};
static_assert(sizeof(LeaseRingHeader) == 320 && std::is_standard_layout_v<LeaseRingHeader>);
static_assert(offsetof(LeaseRingHeader, returned) == 24 && offsetof(LeaseRingHeader, tail) == 64 &&
              offsetof(LeaseRingHeader, head) == 192);

enum class LeasePhase : std::uint32_t {
  open = 0,
  closed = 1,   ///< nothing is pushed any more
  drained = 2,  ///< and there is no task left
};

/// What a ring's size and addresses depend on.
struct LeaseRingShape {
  static constexpr std::uint32_t least_capacity = 64;
  static constexpr std::uint32_t most_capacity = 1U << 24;
  static constexpr std::uint32_t most_payload = 1U << 30;

  std::uint32_t capacity = 1024;  ///< slots: a power of two; well above tasks waiting + leased
  std::uint32_t payload_bytes = 0;
  std::uint32_t payload_alignment = 8;  ///< a power of two, at most 64

  constexpr bool valid() const {
    const auto power = [](std::uint32_t n) { return n != 0 && (n & (n - 1)) == 0; };
    return power(capacity) && capacity >= least_capacity && capacity <= most_capacity &&
           payload_bytes <= most_payload && power(payload_alignment) && payload_alignment <= 64;
  }
  constexpr std::size_t payload_at() const { return rounded(sizeof(LeaseSlot)); }
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

#pragma once

// Result table: what tasks have come to, by ticket. Untyped; TaskQueue::result is its face.
//
// Who may call    put, fail: the process that ends the task with this ticket (LeaseState::ending), so
//                 one at a time for each ticket.  get: anyone, also from a mapping that is read only
// Progress        put, fail: wait-free.  get: wait-free, up to its bound of attempts
// State           entry t mod entries: word {lap:40, grant:11, owner:10, state:3}; the lap is
//                 t / entries, and of later tickets takes the entry from earlier ones
//
//   none, ready, read, failed of any earlier lap, or none of this one
//                      -> writing l, me, grant    put
//   writing l, me      -> ready l                 put, when all bytes are there
//                      -> failed l                fail
//   writing l, dead    -> none l                  recovery
//   ready l            -> read l                  who has got it: then it may go without a word
//   failed l           -> writing l               put: who dropped this letter died before it was gone
//
// Invariants      RESULT-1  what is ready for a ticket stays so, byte by byte, until a later lap's:
//                           a task that is done twice keeps its first result
//                 RESULT-2  a get never returns bytes of two results
//                 RESULT-3  entries of two laps never meet in one: who finds its entry being written
//                           for another lap gives its result up (and counts it as expired); whoever
//                           waits for it hears so when the task has ended. Only with fewer entries
//                           than slots: else the earlier task keeps the later one's slot
// Edges           RESULT.ready -> RESULT.get        the bytes
//                 RESULT.claimed (fence) -> RESULT.recheck (fence): who has copied a byte of a later
//                 lap sees its claim, as in a Slot (SLOT-2)
//                 RESULT.repaired -> RESULT.claim: what the dead wrote comes before what others write
// On death        of who writes: none, by repair, before its task is given to another.  Of who waits:
//                 nothing.  between ready and the wake: waiters look again every 10 ms (and hear of
//                 what comes without a wake, a dead letter or a result that was given up, in the same
//                 way)
// Source          the slot's seqlock, one for each ticket

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "heddle/base/atomic.hpp"
#include "heddle/base/error.hpp"
#include "heddle/base/wait.hpp"
#include "heddle/shm/peers.hpp"

namespace heddle {

class ResultTable {
 public:
  /// Of a table; `entries` is a power of two. The memory is zeroed, and cache line aligned.
  static constexpr std::size_t bytes(std::uint32_t entries, std::uint32_t result_bytes) {
    return entries * stride(result_bytes);
  }

  /// `expired` counts the results that went, or could not be kept, and that nobody had read. Tickets
  /// have so many bits, and wrap.
  ResultTable(std::byte* memory, std::uint32_t entries, std::uint32_t result_bytes,
              unsigned ticket_bits, Atomic<std::uint64_t>& expired) noexcept
      : memory_(memory),
        expired_(&expired),
        entries_(entries),
        result_bytes_(result_bytes),
        not_lap_bits_(64 - lap_bits(ticket_bits, entries)) {}

  /// Keeps the result of a try of the ticket's task; it has at most result_bytes.
  void put(std::uint64_t ticket, std::uint64_t grant, Owner self,
           std::span<const std::byte> result) noexcept;
  /// Says that there will be none.
  void fail(std::uint64_t ticket, std::uint64_t grant, Owner self) noexcept;
  std::uint32_t result_bytes() const noexcept { return result_bytes_; }

  /// Copies the result out, result.size() bytes or as many as it has; `length` is what it has. ready;
  /// empty: not there yet; failed; expired: a later one has its entry.
  Status get(std::uint64_t ticket, std::span<std::byte> result, std::size_t& length) const noexcept;
  /// Notes that it was got. Not from a mapping that is read only.
  void mark_read(std::uint64_t ticket) noexcept;
  /// What changes when the ticket's result comes.
  Event& event(std::uint64_t ticket) const noexcept { return at(ticket).event; }

  void repair(const Dead& dead) noexcept;

 private:
  friend struct LayoutOf;  // pins it: tests/unit/shm/layout_test.cpp
  enum class State : std::uint64_t { none = 0, writing = 1, ready = 2, read = 3, failed = 4 };
  struct Entry {
    Atomic<std::uint64_t> word;
    Event event;
    Atomic<std::uint32_t> length;
    // and the bytes
  };
  static_assert(sizeof(Entry) == 16);

  static constexpr std::uint64_t pack(std::uint64_t lap, std::uint64_t grant, Owner owner,
                                      State state) {
    return lap << 24 | grant << 13 | owner.bits() << 3 | static_cast<std::uint64_t>(state);
  }
  static constexpr State state_of(std::uint64_t word) { return static_cast<State>(word & 7); }
  static constexpr Owner owner_of(std::uint64_t word) { return Owner(word >> 3 & 1023); }
  static constexpr std::size_t stride(std::uint32_t result_bytes) {
    return sizeof(Entry) + (result_bytes + std::size_t{7}) / 8 * 8;
  }
  /// Laps wrap where tickets do, or after 40 bits.
  static constexpr unsigned lap_bits(unsigned ticket_bits, std::uint32_t entries) {
    const unsigned bits = ticket_bits - static_cast<unsigned>(std::countr_zero(entries));
    return bits < 40 ? bits : 40;
  }
  /// Laps by which the word is ahead of the ticket's.
  std::int64_t ahead(std::uint64_t word, std::uint64_t ticket) const noexcept {
    return static_cast<std::int64_t>(((word >> 24) - lap(ticket)) << not_lap_bits_) >>
           not_lap_bits_;
  }
  std::uint64_t lap(std::uint64_t ticket) const noexcept { return ticket / entries_ + 1; }
  Entry& at(std::uint64_t ticket) const noexcept {
    return *reinterpret_cast<Entry*>(memory_ + ticket % entries_ * stride(result_bytes_));
  }
  bool claim(std::uint64_t ticket, std::uint64_t grant, Owner self) noexcept;
  void publish(std::uint64_t ticket, std::uint64_t grant, State state) noexcept;

  std::byte* memory_;
  Atomic<std::uint64_t>* expired_;
  std::uint64_t entries_;
  std::uint32_t result_bytes_;
  unsigned not_lap_bits_;
};

}  // namespace heddle

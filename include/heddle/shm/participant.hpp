#pragma once

// The table of participants: who is in the segment.
//
// Who may call    join, leave: the process itself.  mark_dead, set_free: any participant.
// Progress        lock-free
// State           entry.word {incarnation:48, unused:14, state:2}
//                 FREE -> ALIVE(t) -> DEAD(t) -> FREE
//                 t is drawn from a counter and never used again; a kernel lock, the liveness
//                 token, is held on it from before ALIVE(t) until the process is gone
// Invariants      PART-1  ALIVE(t) is set only by a process that holds the token of t
//                 PART-2  DEAD(t) is set only when that token is gone, or by its own process
//                 PART-3  FREE is set only after a whole pass of repair that began after DEAD(t)
// Edges           PART.free -> PART.join     a newcomer sees every word of its place repaired
//                 PART.join -> PART.look     who sees ALIVE(t) finds its token held
//                 PART.dead -> PART.look     a second recoverer sees what the dead did
//                 PART.free -> PART.still    and one that is too late, what was repaired
//                 (LIVE-1: the kernel gives a token free after its process has stopped for good, so
//                 a look that finds it free synchronises with all that the process did)
// On death        before ALIVE(t): nothing is left.  ALIVE(t): anyone sets DEAD(t).  A recoverer:
//                 DEAD(t) stays and anyone recovers again; each repair is idempotent

#include <cstdint>
#include <span>

#include "heddle/base/atomic.hpp"
#include "heddle/shm/layout.hpp"
#include "heddle/shm/peers.hpp"

namespace heddle {

enum class ParticipantState : std::uint64_t { free = 0, alive = 1, dead = 2 };

struct ParticipantWord {
  static constexpr std::uint64_t last_incarnation = (std::uint64_t{1} << 48) - 1;
  static constexpr std::uint64_t make(std::uint64_t incarnation, ParticipantState state) {
    return incarnation << 16 | static_cast<std::uint64_t>(state);
  }
  static constexpr ParticipantState state(std::uint64_t word) {
    return static_cast<ParticipantState>(word & 3);
  }
  static constexpr std::uint64_t incarnation(std::uint64_t word) { return word >> 16; }
};

class ParticipantTable {
 public:
  ParticipantTable() = default;
  explicit ParticipantTable(std::span<ParticipantEntry> entries) : entries_(entries) {}

  std::uint32_t size() const noexcept { return static_cast<std::uint32_t>(entries_.size()); }
  std::uint64_t look(std::uint32_t index) const noexcept {
    return entries_[index].word.load(acquire("PART.look"));  // <- PART.join, .dead
  }
  ParticipantEntry& entry(std::uint32_t index) const noexcept { return entries_[index]; }

  /// Takes a free place for `incarnation`, whose token the caller holds. Nobody: the table is full.
  Owner join(std::uint64_t incarnation) noexcept {
    for (std::uint32_t i = 0; i < size(); ++i) {  // PART-1: the caller holds the token
      std::uint64_t word = entries_[i].word.load(relaxed);
      const std::uint64_t alive = ParticipantWord::make(incarnation, ParticipantState::alive);
      // <- PART.free. -> PART.look: who finds ALIVE(t) here finds its token held. (Repairs that read
      // a claim of this newcomer find its place no longer DEAD by that claim's own release.)
      if (word == 0 && entries_[i].word.compare_exchange(word, alive, acq_rel("PART.join"))) {
        return Owner::at(i);
      }
    }
    return nobody;
  }

  /// The caller has seen that the token of `alive` is free, or leaves itself. True when the place
  /// is DEAD(t) now, whoever has set it.
  bool mark_dead(std::uint32_t index, std::uint64_t alive) noexcept {
    const std::uint64_t dead =
        ParticipantWord::make(ParticipantWord::incarnation(alive), ParticipantState::dead);
    std::uint64_t word = alive;
    // PART-2: `alive` names the very incarnation that the caller knows of; a newcomer's is another.
    // Passes LIVE-1 on to those that find DEAD without having looked at the token. -> PART.look.
    // No acquire: the caller has `alive` from a look.
    if (entries_[index].word.compare_exchange(word, dead, release("PART.dead"))) return true;
    return look(index) == dead;
  }

  /// The caller has finished a whole pass of repair that began after DEAD(t).
  void set_free(std::uint32_t index, std::uint64_t dead) noexcept {
    // PART-3: the pass was for this very incarnation.
    entries_[index].word.compare_exchange(dead, 0, release("PART.free"));  // -> PART.join
  }

  Dead dead(std::uint32_t index, std::uint64_t dead_word) const noexcept {
    return Dead(Owner::at(index), entries_[index].word, dead_word);
  }

 private:
  std::span<ParticipantEntry> entries_;
};

}  // namespace heddle

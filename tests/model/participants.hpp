#pragma once

// Processes of a scenario as participants: the real table and the real repairs, tokens of the model.
// recover_if_dead and leave do what Segment's do (src/shm/segment.cpp), without the file.

#include <array>
#include <functional>

#include "heddle/shm/participant.hpp"
#include "model/explorer.hpp"

namespace heddle::model {

/// Shared by all processes of a run; lives in ghost memory, its entries in shared memory.
class Participants {
 public:
  using Repair = std::function<void(const Dead&)>;

  Participants(Run& run, std::size_t places)
      : entries_(reinterpret_cast<ParticipantEntry*>(
                     run.memory("participants", places * sizeof(ParticipantEntry)).data()),
                 places),
        table_(entries_) {}

  void repair_with(Repair repair) { repair_ = std::move(repair); }
  ParticipantTable& table() { return table_; }

  /// Process number p has the incarnation p + 1: it says whose token to look at.
  static std::uint64_t incarnation(std::size_t process) { return process + 1; }

  bool recover_if_dead(Owner self, Owner other) {
    if (!other || other == self) return false;
    if (other.index() >= table_.size()) return true;
    const std::uint64_t word = table_.look(other.index());
    switch (ParticipantWord::state(word)) {
      case ParticipantState::free:
        return true;
      case ParticipantState::alive:
        if (!is_dead(ParticipantWord::incarnation(word) - 1)) return false;
        break;
      case ParticipantState::dead:
        break;
    }
    recover(other.index(), word);
    return true;
  }

  void recover(std::uint32_t index, std::uint64_t word) {
    begin_repair();
    if (table_.mark_dead(index, word)) {
      const std::uint64_t dead =
          ParticipantWord::make(ParticipantWord::incarnation(word), ParticipantState::dead);
      if (repair_) repair_(table_.dead(index, dead));
      table_.set_free(index, dead);
    }
    end_repair();
  }

  void recover_dead(Owner self) {
    for (std::uint32_t i = 0; i < table_.size(); ++i) {
      if (ParticipantWord::state(table_.look(i)) != ParticipantState::free) {
        recover_if_dead(self, Owner::at(i));
      }
    }
  }

 private:
  std::span<ParticipantEntry> entries_;
  ParticipantTable table_;
  Repair repair_;
};

/// What one process sees of them.
class ModelPeers : public Peers {
 public:
  /// Is in from the start, at the place of its number.
  ModelPeers(Participants& all, std::size_t process)
      : Peers(Owner::at(static_cast<std::uint32_t>(process)), &here_), all_(all) {
    all.table()
        .entry(self_.index())
        .word.store(
            ParticipantWord::make(Participants::incarnation(process), ParticipantState::alive),
            relaxed);
  }
  /// Comes later, by join().
  explicit ModelPeers(Participants& all) : Peers(nobody, &here_), all_(all) {}

  bool recover_if_dead(Owner other) noexcept override { return all_.recover_if_dead(self_, other); }
  void recover_dead() noexcept { all_.recover_dead(self_); }

  bool join() {
    self_ = all_.table().join(Participants::incarnation(model::self()));
    if (!self_) {
      recover_dead();
      self_ = all_.table().join(Participants::incarnation(model::self()));
    }
    return static_cast<bool>(self_);
  }
  void leave() {
    all_.recover(self_.index(), all_.table().look(self_.index()));
    drop_token(model::self());
  }

 private:
  std::uint32_t here_ = 1;
  Participants& all_;
};

}  // namespace heddle::model

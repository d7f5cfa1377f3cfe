#pragma once

// A round of the storm on a group: members add up numbers of theirs, and rebuild when one dies and when one
// wants to join. Every sum is that of all members, survivors are told the same and the same name, nobody is
// named who lives and has not gone, and no place is lost.

#include "heddle/sync/collective.hpp"
#include "storm_round.hpp"

namespace heddle {

class StormOnGroup final : public StormRound {
 public:
  /// Starts the processes. With `lies` a member adds a number that is not its own.
  StormOnGroup(std::mt19937_64& random, bool lies, StormTotals& totals);
  ~StormOnGroup() override;

 private:
  static constexpr std::array cast = {StormRole::member, StormRole::member, StormRole::member,
                                      StormRole::member, StormRole::recoverer};
  struct Ledger;

  void play(std::size_t i) override;
  void was_killed(std::size_t i) override;
  void let_end() override;
  void add_up() override;

  void take_part(std::size_t i, Group::Member& member, std::span<float> shared);
  void enter(std::size_t i, const Group::Member& member);
  void look(Group::Member& member, std::uint64_t call, std::span<float> data);
  bool tell(const Group::Member& member, std::uint64_t call, GroupOutcome outcome);
  void goes(std::size_t i);
  void require(bool holds, const char* violated, const Group::Member& member);

  const bool lies_;
  Ledger* const ledger_;
};

}  // namespace heddle

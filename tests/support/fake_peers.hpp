#pragma once

// Processes without processes: a table of participants in private memory, in which a test says who
// is dead. Recovery is the real repair function of the mechanism under test.

#include <array>
#include <functional>

#include "heddle/shm/peers.hpp"

namespace heddle::test {

class FakeTable {
 public:
  using Repair = std::function<void(const Dead&)>;
  static constexpr std::uint32_t places = 64;
  explicit FakeTable(Repair repair) : repair_(std::move(repair)) {
    for (auto& entry : entries_) entry.store(alive, relaxed);
    asked_.store(0, relaxed);
  }

  /// `owner` stops for ever; nothing is repaired until somebody looks. Whoever finds it dead has seen
  /// all that it did, as the kernel sees to for real processes (axiom LIVE-1).
  void kill(Owner owner) { entries_[owner.index()].store(dead, release("LIVE-1")); }
  /// Somebody else joins at the place of a dead and repaired participant.
  void rejoin(Owner owner) { entries_[owner.index()].store(alive, relaxed); }

  /// How often somebody has asked after somebody.
  std::uint64_t asked() const { return asked_.load(relaxed); }

  Dead dead_of(Owner owner) const { return Dead(owner, entries_[owner.index()], dead); }

  bool recover_if_dead(Owner owner) {
    asked_.fetch_add(1, relaxed);
    if (owner && owner.index() >= places) return true;
    if (!owner || entries_[owner.index()].load(acquire("LIVE-1")) != dead) return false;
    repair_(dead_of(owner));
    return true;
  }

 private:
  static constexpr std::uint64_t alive = 1, dead = 2;
  std::array<Atomic<std::uint64_t>, places> entries_;
  Repair repair_;
  Atomic<std::uint64_t> asked_;
};

/// One process of a FakeTable.
class FakePeers final : public Peers {
 public:
  FakePeers(FakeTable& table, std::uint32_t index)
      : Peers(Owner::at(index), &here_), table_(table) {}
  bool recover_if_dead(Owner other) noexcept override { return table_.recover_if_dead(other); }
  /// What a forked child sees.
  void forked() { here_ = 0; }

 private:
  std::uint32_t here_ = 1;
  FakeTable& table_;
};

}  // namespace heddle::test

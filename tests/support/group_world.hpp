#pragma once

// A group in private memory and the processes that use it, each with one member.

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <ostream>
#include <thread>
#include <vector>

#include "heddle/sync/collective.hpp"
#include "support/block.hpp"
#include "support/fake_peers.hpp"

namespace heddle {

// NOLINTNEXTLINE(readability-identifier-naming): GoogleTest's name
inline void PrintTo(const GroupOutcome& outcome, std::ostream* out) {
  *out << to_string(outcome.status);
  if (outcome.rank != GroupOutcome::nobody_in_particular) *out << " of rank " << outcome.rank;
}
inline bool operator==(const GroupOutcome& a, const GroupOutcome& b) {
  return a.status == b.status && a.rank == b.rank;
}

namespace test {

inline constexpr Deadline at_once = Deadline::now();
/// Does not pass in a test that succeeds.
inline Deadline soon() { return Deadline::after(std::chrono::seconds(20)); }

inline constexpr GroupOutcome passed{Status::ready};
inline GroupOutcome peer_died(std::uint32_t rank) { return {Status::peer_died, rank}; }
inline GroupOutcome timeout_for(std::uint32_t rank) { return {Status::timeout, rank}; }

struct GroupWorld {
  explicit GroupWorld(const Group::Options& options)
      : block(Group::bytes(options)),
        table([this](const Dead& dead) { Group::repair(memory(), dead); }) {
    Group::format(memory(), options);
  }
  std::span<std::byte> memory() const { return block.span(); }
  template <class T>
  T& at(std::size_t offset) const {
    return *reinterpret_cast<T*>(memory().data() + offset);
  }

  Block block;
  FakeTable table;
};

/// A process with one member. It may die: then its member is abandoned as it is.
struct GroupWorker {
  GroupWorker(GroupWorld& in, std::uint32_t index)
      : world(in), peers(in.table, index), group(in.memory(), peers) {}

  void join(Deadline deadline = soon()) { member = group.join(deadline); }
  void die() {
    peers.forked();  // the handle of a process that is no more does nothing
    world.table.kill(peers.self());
  }
  /// Dies, and somebody who is no member has seen to it.
  void die_and_be_found() {
    die();
    EXPECT_TRUE(world.table.recover_if_dead(peers.self()));
  }

  GroupWorld& world;
  FakePeers peers;
  Group group;
  Group::Member member;
};

using GroupWorkers = std::vector<std::unique_ptr<GroupWorker>>;

/// Each in its own thread, until all have done it.
template <class Do>
void together(GroupWorkers& workers, Do&& does) {
  std::vector<std::thread> threads;
  for (auto& worker : workers) threads.emplace_back([&does, &worker] { does(*worker); });
  for (std::thread& thread : threads) thread.join();
}

/// `count` workers that have joined, in the order of their ranks.
inline GroupWorkers joined(GroupWorld& world, std::uint32_t count) {
  GroupWorkers workers;
  for (std::uint32_t i = 0; i < count; ++i) {
    workers.push_back(std::make_unique<GroupWorker>(world, i));
  }
  together(workers, [](GroupWorker& worker) { worker.join(); });
  std::sort(workers.begin(), workers.end(),
            [](const auto& a, const auto& b) { return a->member.rank() < b->member.rank(); });
  return workers;
}

}  // namespace test
}  // namespace heddle

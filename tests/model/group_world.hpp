#pragma once

// A group, those who are its members from the start, and what the checks know of them.

#include <array>
#include <functional>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "heddle/sync/collective.hpp"
#include "heddle/sync/group.hpp"
#include "model/participants.hpp"
#include "model/scenarios.hpp"

namespace heddle::model {

// A process that is in from the start. Before the run, whoever waits in join() lets the next one come.
class Founder final : public ModelPeers {
 public:
  using ModelPeers::ModelPeers;
  bool recover_if_dead(Owner other) noexcept override {
    if (const auto next = std::exchange(while_waiting, nullptr)) next();
    return has_begun && ModelPeers::recover_if_dead(other);
  }
  /// Collectives may use what lies here where it is.
  void shares(std::span<std::byte> mapping) { mapping_ = mapping; }

  std::function<void()> while_waiting;
  bool has_begun = false;
};

struct GroupWorld {
  GroupWorld(Run& run, const Group::Options& options, std::size_t participants_)
      : participants(run, participants_), memory(run.memory("group", Group::bytes(options))) {
    Group::format(memory, options);
    participants.repair_with([this](const Dead& dead) { Group::repair(memory, dead); });
  }
  Participants participants;
  std::span<std::byte> memory;
  std::array<bool, 6> out{};                     // has left, or asked for the next epoch
  std::array<std::optional<Status>, 64> told{};  // by [epoch * 4 + call]
};

inline Group::Options group_of(std::uint32_t size, std::uint32_t places = 0) {
  return {.size = size, .places = places != 0 ? places : size, .exchange_bytes = 512};
}

inline bool is_out(const GroupWorld& world, std::size_t process) {
  return has_ended(process) || world.out[process];
}

inline constexpr std::array member_names{"member 0", "member 1", "member 2", "member 3"};

// `count` processes that are members of epoch 1, each at the rank of its number.
inline std::vector<Group::Member*> founded(Run& run, GroupWorld& world, std::size_t count,
                                           std::vector<Founder*>& founders) {
  std::vector<Group::Member*> members;
  for (std::size_t i = 0; i < count; ++i) {
    founders.push_back(&run.ghost<Founder>(world.participants, i));
    members.push_back(&run.ghost<Group::Member>());
  }
  std::function<void(std::size_t)> join = [&](std::size_t i) {
    if (i + 1 < count) founders[i]->while_waiting = [&, i] { join(i + 1); };
    *members[i] = Group(world.memory, *founders[i]).join(Deadline::now());
    members[i]->wait_strategy(WaitStrategy::sleep);
  };
  join(0);
  return members;
}

// All have the same answer to call number `call` of an epoch: GROUP-3.
inline void tell(GroupWorld& world, std::uint64_t epoch, std::size_t call, Status status) {
  auto& known = world.told[epoch * 4 + call];
  if (!known) known = status;
  check(*known == status, "GROUP-3: a step was passed by some of the survivors");
}

// Data that comes in the line of the call, in a small cell, in chunks through the ring; or none.
enum class Kind { tiny, small, two_chunks, whole_ring, no_data };

// A small cell has 8 words and one of the ring, too; there are 6 of these.
constexpr std::size_t words_of(Kind kind) {
  switch (kind) {
    case Kind::tiny:
    case Kind::no_data:
      break;
    case Kind::small:
      return 5;
    case Kind::two_chunks:
      return 9;
    case Kind::whole_ring:
      return 7 * 8;
  }
  return 1;
}

// One call: gathers words of each. The areas are plain memory.
inline GroupOutcome call(GroupWorld& world, Group::Member& member, std::size_t number, Kind kind) {
  constexpr std::size_t most_words = words_of(Kind::whole_ring);
  const std::uint64_t mine = member.epoch() * 100 + number * 10 + member.rank();
  const std::size_t words = words_of(kind);
  std::array<std::uint64_t, most_words> own;
  own.fill(mine);
  std::array<std::uint64_t, most_words * most_processes> all;
  const std::span<const std::uint64_t> in(own.data(), words);
  const std::span<std::uint64_t> out(all.data(), words * member.size());
  const std::uint64_t epoch = member.epoch();
  const GroupOutcome outcome =
      kind == Kind::no_data ? member.barrier() : member.all_gather(in, out);
  check(outcome.status == Status::ready || outcome.status == Status::peer_died,
        "a call for ever ends well, or with a death");
  tell(world, epoch, number, outcome.status);
  if (outcome.status == Status::peer_died) {
    check(outcome.rank < member.size(), "GROUP: the dead is named");
    check(outcome.rank != member.rank(), "GROUP: one that lives hears that it died");
    if (epoch == 1) check(is_out(world, outcome.rank), "GROUP: one that lives was named");
    return outcome;
  }
  for (std::uint32_t rank = 0; rank < member.size() && kind != Kind::no_data; ++rank) {
    for (const std::size_t word : {std::size_t{0}, words - 1}) {
      check(all[rank * words + word] == epoch * 100 + number * 10 + rank,
            "GROUP: what was done before a step is seen after it");
    }
  }
  return outcome;
}

// A tiny one that all come to, tested and not waited for. A test that finds a call over wakes nobody: no
// fence follows what it has read.
inline void call_tested(Group::Member& member) {
  const std::array own{member.epoch() * 10 + member.rank()};
  std::array<std::uint64_t, most_processes> all{};
  auto gathers = member.start_all_gather(std::span<const std::uint64_t>(own),
                                         std::span<std::uint64_t>(all).first(member.size()));
  GroupOutcome outcome;
  while ((outcome = gathers.test()).status == Status::empty) pause();
  check(outcome.status == Status::ready, "GROUP-3: all have come to it, and it ends badly");
  for (std::uint32_t rank = 0; rank < member.size(); ++rank) {
    check(all[rank] == member.epoch() * 10 + rank, "COLL-1: not what was called for");
  }
}

}  // namespace heddle::model

// The group: one set of members for all, a step for all survivors or for none, and nobody reads what
// is being written. Collectives are run whole; their areas are plain memory, so a race is a failure.

#include <array>
#include <functional>
#include <optional>
#include <utility>

#include "heddle/sync/collective.hpp"
#include "heddle/sync/group.hpp"
#include "model/participants.hpp"
#include "model/scenarios.hpp"

namespace heddle::model {
namespace {

constexpr std::size_t most = 4;

// A process that is in from the start. Before the run, whoever waits in join() lets the next one come.
class Founder final : public Peers {
 public:
  Founder(Participants& all, std::size_t process)
      : Peers(Owner::at(static_cast<std::uint32_t>(process)), &here_), all_(all) {
    all.table()
        .entry(self_.index())
        .word.store(
            ParticipantWord::make(Participants::incarnation(process), ParticipantState::alive),
            relaxed);
  }
  bool recover_if_dead(Owner other) noexcept override {
    if (const auto next = std::exchange(while_waiting, nullptr)) next();
    return has_begun && all_.recover_if_dead(self_, other);
  }
  void recover_dead() { all_.recover_dead(self_); }

  std::function<void()> while_waiting;
  bool has_begun = false;

 private:
  std::uint32_t here_ = 1;
  Participants& all_;
};

struct World {
  World(Run& run, const Group::Options& options, std::size_t participants_)
      : participants(run, participants_), memory(run.memory("group", Group::bytes(options))) {
    Group::format(memory, options);
    participants.repair_with([this](const Dead& dead) { Group::repair(memory, dead); });
  }
  Participants participants;
  std::span<std::byte> memory;
  std::array<bool, 6> out{};                     // has left, or asked for the next epoch
  std::array<std::optional<Status>, 64> told{};  // by [epoch * 4 + call]
};

Group::Options of(std::uint32_t size, std::uint32_t places = 0) {
  return {.size = size, .places = places != 0 ? places : size, .exchange_bytes = 512};
}

bool is_out(const World& world, std::size_t process) {
  return has_ended(process) || world.out[process];
}

constexpr std::array names{"member 0", "member 1", "member 2", "member 3"};

// `count` processes that are members of epoch 1, each at the rank of its number.
std::vector<Group::Member*> founded(Run& run, World& world, std::size_t count,
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
void tell(World& world, std::uint64_t epoch, std::size_t call, Status status) {
  auto& known = world.told[epoch * 4 + call];
  if (!known) known = status;
  check(*known == status, "GROUP-3: a step was passed by some of the survivors");
}

// Data that comes in the line of the call, in a small cell, in chunks through the ring; or none.
enum class Kind { tiny, small, two_chunks, whole_ring, reduced, no_data };
// A cell has 8 words, the ring 6 cells.
constexpr std::size_t words_of(Kind kind) {
  switch (kind) {
    case Kind::tiny:
    case Kind::no_data:
      return 1;
    case Kind::small:
      return 5;
    case Kind::two_chunks:
    case Kind::reduced:
      return 9;
    case Kind::whole_ring:
      break;
  }
  return 7 * 8;
}

// One call: gathers a number of each, or adds them up. The areas are plain memory.
GroupOutcome call(World& world, Group::Member& member, std::size_t number, Kind kind) {
  const std::uint64_t mine = member.epoch() * 100 + number * 10 + member.rank();
  const std::size_t words = words_of(kind);
  std::array<std::uint64_t, words_of(Kind::whole_ring)> own;
  std::array<std::uint64_t, words_of(Kind::whole_ring) * most> all{};
  own.fill(mine);
  std::array<std::int64_t, words_of(Kind::reduced)> sums;
  sums.fill(static_cast<std::int64_t>(mine));
  const std::span<const std::uint64_t> in(own.data(), words);
  const std::span<std::uint64_t> out(all.data(), words * member.size());
  const std::uint64_t epoch = member.epoch();
  const GroupOutcome outcome =
      kind == Kind::no_data   ? member.barrier()
      : kind == Kind::reduced ? member.allreduce(std::span<std::int64_t>(sums))
                              : member.all_gather(in, out);
  check(outcome.status == Status::ready || outcome.status == Status::peer_died,
        "a call for ever ends well, or with a death");
  tell(world, epoch, number, outcome.status);
  if (outcome.status == Status::peer_died) {
    check(outcome.rank < member.size(), "GROUP: the dead is named");
    if (epoch == 1) check(is_out(world, outcome.rank), "GROUP: one that lives was named");
    return outcome;
  }
  if (kind == Kind::no_data) return outcome;
  if (kind == Kind::reduced) {
    std::uint64_t expected = 0;
    for (std::uint32_t rank = 0; rank < member.size(); ++rank) {
      expected += epoch * 100 + number * 10 + rank;
    }
    for (const std::int64_t sum : sums) {
      check(sum == static_cast<std::int64_t>(expected), "COLL: the sum of all");
    }
    return outcome;
  }
  for (std::uint32_t rank = 0; rank < member.size(); ++rank) {
    for (std::size_t word : {std::size_t{0}, words - 1}) {
      check(all[rank * words + word] == epoch * 100 + number * 10 + rank,
            "GROUP: what was done before a step is seen after it");
    }
  }
  return outcome;
}

// `count` members, of whom the first `mortals` may die, make `calls` calls each; whoever hears of a
// death rebuilds, and makes one call more.
World& calls(Run& run, std::size_t count, std::size_t mortals, std::size_t calls_each, Kind kind,
             std::size_t participants = 0) {
  auto& world =
      run.ghost<World>(run, of(static_cast<std::uint32_t>(count)), std::max(count, participants));
  auto& founders = run.ghost<std::vector<Founder*>>();
  const auto members = founded(run, world, count, founders);
  for (std::size_t i = 0; i < count; ++i) {
    run.process(
        names[i], i < mortals, [&world, &founders, i, member = members[i], calls_each, kind] {
          founders[i]->has_begun = true;
          for (std::size_t number = 0; number < calls_each; ++number) {
            if (call(world, *member, number, kind)) continue;
            world.out[i] = true;
            const std::uint64_t before = member->epoch();
            check(member->rebuild().status == Status::ready, "rebuild ends");
            check(member->epoch() == before + 1 && member->size() >= 1, "epochs follow each other");
            number = calls_each - 2;  // one more
            if (calls_each == 1) break;
          }
          world.out[i] = true;
          member->leave();
        });
  }
  return world;
}

// Two that come last: each claims, and looks for the other.
void joiners(Run& run, bool mortal) {
  auto& world = run.ghost<World>(run, of(2, 3), 3U);
  for (std::size_t i = 0; i < (mortal ? 3U : 2U); ++i) {
    Peers& peers = run.ghost<ModelPeers>(world.participants, i);
    run.process(names[i], i == 2, [&world, &peers, i, mortal] {
      Group group(world.memory, peers);
      Group::Member member = group.join();
      member.wait_strategy(WaitStrategy::sleep);
      check(mortal || member.size() == 2, "GROUP-1: the first epoch has the first two");
      check(member.size() <= 2, "GROUP-1: of three, two make up the first epoch");
      while (!member.barrier()) check(member.rebuild().status == Status::ready, "rebuild ends");
      world.out[i] = true;
      member.leave();
    });
  }
}

// All ask for the next epoch at once, and nobody dies. In the same half of the areas as before it, so
// that whoever fills one must know that all have drained it.
void rebuild(Run& run, std::uint32_t count) {
  auto& world = run.ghost<World>(run, of(count), count);
  auto& founders = run.ghost<std::vector<Founder*>>();
  const auto members = founded(run, world, count, founders);
  for (std::size_t i = 0; i < count; ++i) {
    run.process(names[i], false, [&world, &founders, i, count, member = members[i]] {
      founders[i]->has_begun = true;
      for (std::uint64_t epoch = 2; epoch <= 3; ++epoch) {
        check(member->rebuild().status == Status::ready, "rebuild ends");
        check(member->epoch() == epoch && member->size() == count && member->rank() == i,
              "GROUP-1: the same members again");
        check(call(world, *member, 0, Kind::tiny).status == Status::ready, "and goes on");
      }
    });
  }
}

// One makes a call, the other is not in it and asks for the next epoch, or leaves.
void goes(Run& run, bool leaves) {
  auto& world = run.ghost<World>(run, of(2), 2U);
  auto& founders = run.ghost<std::vector<Founder*>>();
  const auto members = founded(run, world, 2, founders);
  run.process("waits", false, [&world, &founders, member = members[0]] {
    founders[0]->has_begun = true;
    check(call(world, *member, 0, Kind::tiny).status == Status::peer_died, "it hears of it");
    world.out[0] = true;
    check(member->rebuild().status == Status::ready, "rebuild ends");
    member->leave();
  });
  run.process("goes", false, [&world, &founders, leaves, member = members[1]] {
    founders[1]->has_begun = true;
    world.out[1] = true;
    if (!leaves) check(member->rebuild().status == Status::ready, "rebuild ends");
    member->leave();
  });
}

// One is dead with its part done, one waits, and one is not in the call: when it asks for the next
// epoch, or leaves, who waits has to hear of it.
void absent(Run& run, bool leaves) {
  auto& world = run.ghost<World>(run, of(3), 4U);
  auto& founders = run.ghost<std::vector<Founder*>>();
  const auto members = founded(run, world, 3, founders);
  run.process("dead", false, [&founders, member = members[0]] {
    founders[0]->has_begun = true;
    check(member->begin({}).status == Status::ready, "it begins");
    drop_token(self());
  });
  run.process("waits", false, [&world, &founders, member = members[1]] {
    founders[1]->has_begun = true;
    call(world, *member, 0, Kind::no_data);
  });
  run.process("absent", false, [&world, &founders, leaves, member = members[2]] {
    founders[2]->has_begun = true;
    while (!has_ended(0)) pause();
    founders[2]->recover_dead();
    world.out[2] = true;
    if (leaves) {
      member->leave();
    } else {
      (void)member->rebuild(Deadline::now());
    }
  });
}

// One is dead, and a recoverer is slow to say who: meanwhile the others rebuild, and another dies, who is
// said by the one that is left.
void named(Run& run) {
  auto& world = run.ghost<World>(run, of(3), 4U);
  auto& founders = run.ghost<std::vector<Founder*>>();
  const auto members = founded(run, world, 3, founders);
  run.process("dead", false, [] { drop_token(self()); });
  run.process("second", false, [&world, &founders, member = members[1]] {
    founders[1]->has_begun = true;
    while (!has_ended(0)) pause();
    world.out[1] = true;
    check(member->rebuild().status == Status::ready, "rebuild ends");
    drop_token(self());
  });
  run.process("last", false, [&world, &founders, member = members[2]] {
    founders[2]->has_begun = true;
    for (int i = 0; i < 2; ++i) {
      check(call(world, *member, 0, Kind::no_data).status == Status::peer_died, "it hears of it");
      check(member->rebuild().status == Status::ready, "rebuild ends");
    }
  });
  auto& recoverer = run.ghost<ModelPeers>(world.participants, 3U);
  run.process("recoverer", false, [&recoverer] {
    while (!has_ended(0)) pause();
    recoverer.recover_dead();
  });
}

// The dead one's place has a new owner at once, while the others may still be in the old epoch.
void newcomer(Run& run, std::size_t count, Kind kind) {
  World& world = calls(run, count, 1, 2, kind);
  auto& late = run.ghost<ModelPeers>(world.participants);
  run.process("newcomer", false, [&world, &late, kind] {
    if (!late.join()) return;
    try {
      Group group(world.memory, late);
      Group::Member member = group.join();
      member.wait_strategy(WaitStrategy::sleep);
      check(member.epoch() > 1, "GROUP-2: a newcomer is a member of the next epoch");
      while (!call(world, member, 1, kind)) {
        check(member.rebuild().status == Status::ready, "rebuild ends");
      }
      member.leave();
    } catch (const Error&) {  // all places have living owners
    }
  });
}

// Epochs follow each other while one joins: it gets in, however late its claim is.
void late_join(Run& run) {
  auto& world = run.ghost<World>(run, of(1, 2), 2U);
  auto& founders = run.ghost<std::vector<Founder*>>();
  const auto members = founded(run, world, 1, founders);
  run.process("member", false, [&founders, member = members[0]] {
    founders[0]->has_begun = true;
    for (int i = 0; i < 3; ++i) check(member->rebuild().status == Status::ready, "rebuild ends");
    member->leave();
  });
  Peers& peers = run.ghost<ModelPeers>(world.participants, 1U);
  run.process("newcomer", false, [&world, &peers] {
    Group group(world.memory, peers);
    Group::Member member = group.join();
    check(member.size() >= 1, "it is a member");
    member.leave();
  });
}

// Others than the members find the dead, at the same time; they may die of it. Nobody wakes by itself.
void recoverers(Run& run, std::size_t count, std::size_t mortals, bool second) {
  World& world = calls(run, count, mortals, 2, Kind::tiny, count + 2);
  for (std::size_t i = 0; i < (second ? 2U : 1U); ++i) {
    auto& supervisor = run.ghost<ModelPeers>(world.participants, count + i);
    run.process(i == 0 ? "supervisor" : "second", false, [&supervisor, mortals] {
      for (std::size_t mortal = 0; mortal < mortals; ++mortal) {
        while (!has_ended(mortal)) pause();
      }
      supervisor.recover_dead();
    });
  }
}

}  // namespace

std::vector<Scenario> group_scenarios() {
  using enum Kind;
  const auto awake = [](int preemptions, int stale) {
    return Bounds{.preemptions = preemptions, .stale = stale, .inner_timeouts = false};
  };
  const auto deaths = [](int preemptions, int stale, int died) {
    return Bounds{.preemptions = preemptions, .deaths = died, .stale = stale};
  };
  return {
      {"group/joiners", awake(2, 1), [](Run& run) { joiners(run, false); }},
      {"group/dead_joiner", deaths(0, 1, 1), [](Run& run) { joiners(run, true); }},
      {"group/two", awake(2, 2), [](Run& run) { calls(run, 2, 0, 2, tiny); }},
      {"group/halves", awake(2, 1), [](Run& run) { calls(run, 2, 0, 3, tiny); }},
      {"group/small", awake(1, 1), [](Run& run) { calls(run, 2, 0, 3, small); }},
      {"group/whole_ring", awake(1, 1), [](Run& run) { calls(run, 2, 0, 1, whole_ring); }},
      {"group/striped", awake(1, 0), [](Run& run) { calls(run, 3, 0, 1, reduced); }},
      {"group/death_in_stripes", deaths(0, 0, 1), [](Run& run) { calls(run, 3, 1, 1, reduced); }},
      {"group/two_chunks", awake(1, 1), [](Run& run) { calls(run, 2, 0, 2, two_chunks); }},
      {"group/three", awake(1, 1), [](Run& run) { calls(run, 3, 0, 1, tiny); }},
      {"group/death", deaths(1, 1, 1), [](Run& run) { calls(run, 2, 1, 2, tiny); }},
      {"group/death_in_two_chunks", deaths(1, 1, 1),
       [](Run& run) { calls(run, 2, 1, 2, two_chunks); }},
      {"group/death_of_three", deaths(1, 0, 1), [](Run& run) { calls(run, 3, 1, 1, tiny); }},
      {"group/death_of_three_in_two_chunks", deaths(0, 0, 1),
       [](Run& run) { calls(run, 3, 1, 1, two_chunks); }},
      {"group/two_deaths", deaths(0, 0, 2), [](Run& run) { calls(run, 3, 2, 1, tiny); }},
      {"group/rebuild", awake(1, 1), [](Run& run) { rebuild(run, 2); }},
      {"group/rebuild_of_three", awake(1, 0), [](Run& run) { rebuild(run, 3); }},
      {"group/names", {.preemptions = 1, .stale = 1}, named},
      {"group/left", awake(2, 1), [](Run& run) { goes(run, true); }},
      {"group/asked", awake(2, 1), [](Run& run) { goes(run, false); }},
      {"group/absent_leaves", awake(2, 0), [](Run& run) { absent(run, true); }},
      {"group/absent_asks", awake(2, 0), [](Run& run) { absent(run, false); }},
      {"group/newcomer", deaths(1, 0, 1), [](Run& run) { newcomer(run, 2, tiny); }},
      {"group/late_join", awake(2, 1), late_join},
      {"group/recoverer", deaths(1, 0, 1), [](Run& run) { recoverers(run, 2, 1, false); }},
      {"group/two_recoverers", deaths(0, 1, 1), [](Run& run) { recoverers(run, 2, 1, true); }},
  };
}

}  // namespace heddle::model

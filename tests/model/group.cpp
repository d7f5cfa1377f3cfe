// The group: one set of members for all, a step for all survivors or for none, and nobody reads what
// is being written. Collectives are run whole; their areas are plain memory, so a race is a failure.

#include "model/group_world.hpp"

namespace heddle::model {
namespace {

// `count` members, of whom the first `mortals` may die, make `calls` calls each; whoever hears of a
// death rebuilds, and makes one call more.
GroupWorld& calls(Run& run, std::size_t count, std::size_t mortals, std::size_t calls_each,
                  Kind kind, std::size_t participants = 0) {
  auto& world = run.ghost<GroupWorld>(run, group_of(static_cast<std::uint32_t>(count)),
                                      std::max(count, participants));
  auto& founders = run.ghost<std::vector<Founder*>>();
  const auto members = founded(run, world, count, founders);
  for (std::size_t i = 0; i < count; ++i) {
    run.process(member_names[i], i < mortals,
                [&world, &founders, i, member = members[i], calls_each, kind] {
                  founders[i]->has_begun = true;
                  for (std::size_t number = 0; number < calls_each; ++number) {
                    if (call(world, *member, number, kind)) continue;
                    world.out[i] = true;
                    const std::uint64_t before = member->epoch();
                    check(member->rebuild().status == Status::ready, "rebuild ends");
                    check(member->epoch() == before + 1 && member->size() >= 1,
                          "epochs follow each other");
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
  auto& world = run.ghost<GroupWorld>(run, group_of(2, 3), 3U);
  for (std::size_t i = 0; i < (mortal ? 3U : 2U); ++i) {
    Peers& peers = run.ghost<ModelPeers>(world.participants, i);
    run.process(member_names[i], i == 2, [&world, &peers, i, mortal] {
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

// All make a call in each epoch, and ask for the next one at once; nobody dies. Each writes where the others
// have read in the epoch before, so that whoever does must know that they have.
void rebuild(Run& run, std::uint32_t count, std::uint64_t last) {
  auto& world = run.ghost<GroupWorld>(run, group_of(count), count);
  auto& founders = run.ghost<std::vector<Founder*>>();
  const auto members = founded(run, world, count, founders);
  for (std::size_t i = 0; i < count; ++i) {
    run.process(member_names[i], false, [&world, &founders, i, count, last, member = members[i]] {
      founders[i]->has_begun = true;
      for (std::uint64_t epoch = 1; epoch <= last; ++epoch) {
        if (epoch != 1) check(member->rebuild().status == Status::ready, "rebuild ends");
        check(member->epoch() == epoch && member->size() == count && member->rank() == i,
              "GROUP-1: the same members again");
        // Who is out of the epoch had come to its call: it ends well for all.
        check(call(world, *member, 0, Kind::tiny).status == Status::ready, "and goes on");
      }
    });
  }
}

// The same, but calls are tested, and who waits for the epoch does not sleep: there is no fence by which
// others learn what was read.
void rebuild_tested(Run& run) {
  auto& world = run.ghost<GroupWorld>(run, group_of(3), 3U);
  auto& founders = run.ghost<std::vector<Founder*>>();
  const auto members = founded(run, world, 3, founders);
  for (std::size_t i = 0; i < 3; ++i) {
    run.process(member_names[i], false, [&founders, i, member = members[i]] {
      founders[i]->has_begun = true;
      member->wait_strategy(WaitStrategy::spin);
      call_tested(*member);
      check(member->rebuild().status == Status::ready, "rebuild ends");
      check(member->epoch() == 2 && member->size() == 3, "GROUP-1: the same members again");
      call_tested(*member);
    });
  }
}

// One makes a call, the other is not in it and asks for the next epoch, or leaves.
void goes(Run& run, bool leaves) {
  auto& world = run.ghost<GroupWorld>(run, group_of(2), 2U);
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
  auto& world = run.ghost<GroupWorld>(run, group_of(3), 4U);
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

// The dead one's place has a new owner at once, while the others may still be in the old epoch.
void newcomer(Run& run, std::size_t count, Kind kind) {
  GroupWorld& world = calls(run, count, 1, 2, kind);
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
  auto& world = run.ghost<GroupWorld>(run, group_of(1, 2), 2U);
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
  GroupWorld& world = calls(run, count, mortals, 2, Kind::tiny, count + 2);
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
      {"group/two_chunks", awake(1, 1), [](Run& run) { calls(run, 2, 0, 2, two_chunks); }},
      {"group/three", awake(1, 1), [](Run& run) { calls(run, 3, 0, 1, tiny); }},
      {"group/death", deaths(1, 1, 1), [](Run& run) { calls(run, 2, 1, 2, tiny); }},
      {"group/death_in_two_chunks", deaths(1, 1, 1),
       [](Run& run) { calls(run, 2, 1, 2, two_chunks); }},
      {"group/death_of_three", deaths(1, 0, 1), [](Run& run) { calls(run, 3, 1, 1, tiny); }},
      {"group/death_of_three_in_two_chunks", deaths(0, 0, 1),
       [](Run& run) { calls(run, 3, 1, 1, two_chunks); }},
      {"group/two_deaths", deaths(1, 0, 2), [](Run& run) { calls(run, 3, 2, 1, tiny); }},
      {"group/rebuild", awake(1, 1), [](Run& run) { rebuild(run, 2, 3); }},
      {"group/rebuild_of_three", awake(1, 0), [](Run& run) { rebuild(run, 3, 2); }},
      {"group/rebuild_tested", awake(0, 0), rebuild_tested},
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

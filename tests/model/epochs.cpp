// The group's epochs: who takes over a place, who is named, and what goes with a place that changes its
// owner. Each scenario is the least in which one order is missed.

#include "model/group_world.hpp"

namespace heddle::model {
namespace {

// Does `then` as a member, if a place is free.
template <class Then>
void joins(GroupWorld& world, Peers& peers, Then&& then) {
  try {
    Group::Member member = Group(world.memory, peers).join();
    member.wait_strategy(WaitStrategy::sleep);
    check(member.epoch() > 1, "GROUP-2: a newcomer is a member of the next epoch");
    then(member);
  } catch (const Error&) {  // all places have living owners
  }
}

// One has read what another wrote, and leaves, or is dead. Who takes over its place begins the next epoch for
// both, in which the other writes there again: it hears of that reading from the newcomer alone.
void takes_over(Run& run, bool leaves) {
  auto& world = run.ghost<GroupWorld>(run, group_of(2), 4U);
  auto& founders = run.ghost<std::vector<Founder*>>();
  const auto members = founded(run, world, 2, founders);
  run.process("first", false, [&founders, leaves, member = members[0]] {
    founders[0]->has_begun = true;
    call_tested(*member);
    leaves ? member->leave() : drop_token(self());
  });
  run.process("stays", false, [&founders, member = members[1]] {
    founders[1]->has_begun = true;
    member->wait_strategy(WaitStrategy::spin);
    call_tested(*member);
    check(member->rebuild().status == Status::ready, "rebuild ends");
    call_tested(*member);
    member->leave();
  });
  Peers& peers = run.ghost<ModelPeers>(world.participants, 2U);
  run.process("newcomer", false, [&world, &peers] {
    joins(world, peers, [](Group::Member& member) { call_tested(member); });
  });
  if (leaves) return;
  auto& recoverer = run.ghost<ModelPeers>(world.participants, 3U);
  run.process("recoverer", false, [&recoverer] {
    while (!has_ended(0)) pause();
    recoverer.recover_dead();
  });
}

// A recoverer that is slow to repair the dead one's place (control/newcomer): meanwhile another has done
// it, and a newcomer that has the dead one's index has claimed the place, and not yet asked for an epoch.
// Taken for gone, the place would have a second owner: the recoverer wants it for itself.
void claimed(Run& run) {
  auto& world = run.ghost<GroupWorld>(run, group_of(1), 2U);
  auto& founders = run.ghost<std::vector<Founder*>>();
  founded(run, world, 1, founders);
  auto& slow = run.ghost<ModelPeers>(world.participants, 1U);
  auto& late = run.ghost<ModelPeers>(world.participants);
  auto& owners = run.ghost<int>(0);
  run.process("dead", false, [] { drop_token(self()); });
  run.process("recoverer", false, [&world, &slow, &owners] {
    slow.recover_dead();
    joins(world, slow, [&](Group::Member&) {
      check(++owners == 1, "a place has two owners");
      while (!has_ended(2)) pause();
      --owners;
    });
  });
  run.process("newcomer", false, [&world, &late, &owners] {
    if (!late.join()) return;
    joins(world, late, [&](Group::Member&) {
      check(++owners == 1, "a place has two owners");
      --owners;
    });
  });
}

// The dead one's place is claimed as soon as it is gone, before its recoverer has broken the epoch, of
// which the newcomer may not have heard: it must break it, or nobody does before those who wait look.
void claimed_at_once(Run& run) {
  auto& world = run.ghost<GroupWorld>(run, group_of(2), 4U);
  auto& founders = run.ghost<std::vector<Founder*>>();
  const auto members = founded(run, world, 2, founders);
  run.process("dead", false, [&founders, member = members[0]] {
    founders[0]->has_begun = true;
    check(member->rebuild().status == Status::ready, "rebuild ends");
    drop_token(self());
  });
  run.process("waits", false, [&world, &founders, member = members[1]] {
    founders[1]->has_begun = true;
    check(member->rebuild().status == Status::ready, "rebuild ends");
    check(call(world, *member, 0, Kind::no_data).status == Status::peer_died, "it hears of it");
    check(member->rebuild().status == Status::ready, "and goes on");
    member->leave();
  });
  auto& recoverer = run.ghost<ModelPeers>(world.participants, 2U);
  run.process("recoverer", false, [&recoverer] {
    while (!has_ended(0)) pause();
    recoverer.recover_dead();
  });
  Peers& peers = run.ghost<ModelPeers>(world.participants, 3U);
  run.process("newcomer", false, [&world, &peers] {
    joins(world, peers, [](Group::Member& member) { check(member.size() <= 2, "it is a member"); });
  });
}

// One fills its chunks, and is dead; another has filled its own. The third, when the epoch is broken, fills
// the last that were missing, finds the call done, begins the next one, and stops: nothing that it does in
// between wakes anybody. Who looks must not see that it has stopped and miss what it did before.
void done_and_stops(Run& run) {
  constexpr std::size_t words = words_of(Kind::two_chunks);
  auto& world = run.ghost<GroupWorld>(run, group_of(3), 3U);
  auto& founders = run.ghost<std::vector<Founder*>>();
  const auto members = founded(run, world, 3, founders);
  auto& came = run.ghost<int>(0);
  auto& own = run.ghost<std::array<std::uint64_t, words>>();
  auto& all = run.ghost<std::array<std::array<std::uint64_t, 3 * words>, 3>>();
  const auto start = [&founders, &came, &own, &all, members](std::size_t i) {
    founders[i]->has_begun = true;
    ++came;
    return members[i]->start_all_gather(std::span<const std::uint64_t>(own),
                                        std::span<std::uint64_t>(all[i]));
  };
  run.process("dead", false, [start, &came] {
    while (came < 2) pause();
    const auto gathers = start(0);
    drop_token(self());
  });
  run.process("looks", false, [start, &world, &founders, &came] {
    auto gathers = start(1);
    while (!has_ended(0)) pause();
    founders[1]->recover_dead();
    ++came;
    GroupOutcome outcome;
    while ((outcome = gathers.test()).status == Status::empty) pause();
    tell(world, 1, 0, outcome.status);
  });
  run.process("stops", false, [start, &world, &came, member = members[2]] {
    auto gathers = start(2);
    auto passes = member->start_barrier();
    while (came < 4) pause();
    tell(world, 1, 0, gathers.wait().status);
    check(passes.wait().status == Status::peer_died, "GROUP-4: begun in a broken epoch");
  });
}

enum class Goes { leaves, asks, dies };

// One is dead with its part done, which breaks the epoch. Another does its part and goes at once. Who
// waits finds it out of the epoch, and must see that it has arrived: a call that all came to ends well.
void done_and_gone(Run& run, Goes how) {
  auto& world = run.ghost<GroupWorld>(run, group_of(3), 4U);
  auto& founders = run.ghost<std::vector<Founder*>>();
  const auto members = founded(run, world, 3, founders);
  auto& came = run.ghost<int>(0);
  run.process("dead", false, [&founders, &came, member = members[0]] {
    founders[0]->has_begun = true;
    came += member->begin({}).status == Status::ready;
    drop_token(self());
  });
  run.process("waits", false, [&founders, &came, member = members[1]] {
    founders[1]->has_begun = true;
    if (!member->begin({})) return;  // it was slow, and came to a broken epoch
    const Status status = member->wait().status;
    check(came < 2 || status == Status::ready, "GROUP-3: all have come to it, and it ends badly");
  });
  run.process("goes", false, [&founders, &came, how, member = members[2]] {
    founders[2]->has_begun = true;
    came += member->begin({}).status == Status::ready;
    if (how == Goes::leaves) member->leave();
    if (how == Goes::asks) (void)member->rebuild(Deadline::now());
    if (how == Goes::dies) drop_token(self());
  });
  auto& recoverer = run.ghost<ModelPeers>(world.participants, 3U);
  run.process("recoverer", false, [&recoverer] {
    while (!has_ended(0)) pause();
    recoverer.recover_dead();
  });
}

// One leaves and is slow to say so: meanwhile the others rebuild, and another leaves or is dead, whose name
// it is from then on. Of the dead one says a recoverer who has done nothing else.
void slow_name(Run& run, bool dies) {
  auto& world = run.ghost<GroupWorld>(run, group_of(3), 4U);
  auto& founders = run.ghost<std::vector<Founder*>>();
  const auto members = founded(run, world, 3, founders);
  run.process("slow", false, [&world, &founders, member = members[0]] {
    founders[0]->has_begun = true;
    world.out[0] = true;
    member->leave();
  });
  run.process("goes", false, [&founders, dies, member = members[1]] {
    founders[1]->has_begun = true;
    check(member->rebuild().status == Status::ready, "rebuild ends");
    dies ? drop_token(self()) : member->leave();
  });
  run.process("stays", false, [&world, &founders, member = members[2]] {
    founders[2]->has_begun = true;
    check(member->rebuild().status == Status::ready, "rebuild ends");
    call(world, *member, 0, Kind::no_data);
  });
  if (!dies) return;
  auto& recoverer = run.ghost<ModelPeers>(world.participants, 3U);
  run.process("recoverer", false, [&recoverer] { recoverer.recover_dead(); });
}

// Calls until one ends well.
void calls_until_well(GroupWorld& world, Group::Member& member, Kind kind) {
  while (!call(world, member, 0, kind)) {
    const std::uint64_t before = member.epoch();
    check(member.rebuild().status == Status::ready, "rebuild ends");
    check(member.epoch() > before, "epochs follow each other");
  }
}

// One leaves or dies, whose epoch the other and a newcomer break together, while the newcomer joins, in a
// place that is free or in that of the one who goes.
void joins_meanwhile(Run& run, std::uint32_t places, bool mortal) {
  auto& world = run.ghost<GroupWorld>(run, group_of(2, places), 3U);
  auto& founders = run.ghost<std::vector<Founder*>>();
  const auto members = founded(run, world, 2, founders);
  run.process("goes", mortal, [&world, &founders, member = members[0]] {
    founders[0]->has_begun = true;
    world.out[0] = true;
    member->leave();
  });
  run.process("stays", false, [&world, &founders, member = members[1]] {
    founders[1]->has_begun = true;
    if (!call(world, *member, 0, Kind::tiny)) {
      world.out[1] = true;
      check(member->rebuild().status == Status::ready, "rebuild ends");
      calls_until_well(world, *member, Kind::tiny);
    }
    member->leave();
  });
  Peers& peers = run.ghost<ModelPeers>(world.participants, 2U);
  run.process("newcomer", false, [&world, &peers] {
    joins(world, peers,
          [&](Group::Member& member) { calls_until_well(world, member, Kind::tiny); });
  });
}

// One is dead, and while it is recovered another leaves: the third waits for both, and hears of one.
void leaves_meanwhile(Run& run) {
  auto& world = run.ghost<GroupWorld>(run, group_of(3), 4U);
  auto& founders = run.ghost<std::vector<Founder*>>();
  const auto members = founded(run, world, 3, founders);
  run.process("dead", false, [] { drop_token(self()); });
  run.process("leaves", false, [&world, &founders, member = members[1]] {
    founders[1]->has_begun = true;
    world.out[1] = true;
    member->leave();
  });
  run.process("stays", false, [&world, &founders, member = members[2]] {
    founders[2]->has_begun = true;
    check(call(world, *member, 0, Kind::tiny).status == Status::peer_died, "it hears of it");
    check(member->rebuild().status == Status::ready, "rebuild ends");
    check(member->size() == 1, "it is alone");
    check(call(world, *member, 0, Kind::tiny).status == Status::ready, "and goes on");
  });
  auto& recoverer = run.ghost<ModelPeers>(world.participants, 3U);
  run.process("recoverer", false, [&recoverer] { recoverer.recover_dead(); });
}

}  // namespace

std::vector<Scenario> epoch_scenarios() {
  const auto bounds = [](int preemptions, int stale) {
    return Bounds{.preemptions = preemptions, .stale = stale};
  };
  const auto awake = [](int preemptions, int stale) {
    return Bounds{.preemptions = preemptions, .stale = stale, .inner_timeouts = false};
  };
  const auto deaths = [](int preemptions, int stale) {
    return Bounds{.preemptions = preemptions, .deaths = 1, .stale = stale};
  };
  return {
      {"group/joins_beside_one_who_leaves", bounds(1, 1),
       [](Run& run) { joins_meanwhile(run, 3, false); }},
      {"group/joins_after_one_who_leaves", bounds(2, 1),
       [](Run& run) { joins_meanwhile(run, 2, false); }},
      {"group/joins_beside_the_dead", deaths(1, 0),
       [](Run& run) { joins_meanwhile(run, 3, true); }},
      {"group/joins_after_the_dead", deaths(1, 1), [](Run& run) { joins_meanwhile(run, 2, true); }},
      {"group/leaves_meanwhile", bounds(1, 1), leaves_meanwhile},
      {"group/takes_over_from_one_who_leaves", bounds(1, 1),
       [](Run& run) { takes_over(run, true); }},
      {"group/takes_over_from_the_dead", bounds(1, 1), [](Run& run) { takes_over(run, false); }},
      {"group/claimed", bounds(2, 1), claimed},
      {"group/claimed_at_once", awake(1, 1), claimed_at_once},
      {"group/done_and_left", bounds(1, 2), [](Run& run) { done_and_gone(run, Goes::leaves); }},
      {"group/done_and_asked", bounds(1, 2), [](Run& run) { done_and_gone(run, Goes::asks); }},
      {"group/done_and_dead", bounds(1, 2), [](Run& run) { done_and_gone(run, Goes::dies); }},
      {"group/done_and_stops", bounds(0, 2), done_and_stops},
      {"group/slow_name", bounds(1, 1), [](Run& run) { slow_name(run, false); }},
      {"group/slow_name_of_the_dead", bounds(1, 1), [](Run& run) { slow_name(run, true); }},
  };
}

}  // namespace heddle::model

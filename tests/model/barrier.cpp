// The barrier: nobody passes early, nobody stays behind, all hear the same.

#include <map>

#include "heddle/sync/barrier.hpp"
#include "model/participants.hpp"
#include "model/scenarios.hpp"

namespace heddle::model {
namespace {

struct World {
  World(Run& run, const Barrier::Options& options, std::size_t places)
      : participants(run, places),
        memory(run.memory("barrier", Barrier::bytes(options))),
        cells(run.shared<std::array<std::array<std::uint64_t, 4>, 6>>("cells")) {
    Barrier::format(memory, options);
    participants.repair_with([this](const Dead& dead) { Barrier::repair(memory, dead); });
  }
  Participants participants;
  std::span<std::byte> memory;
  std::array<std::array<std::uint64_t, 4>, 6>& cells;  // plain: [epoch][process]
  std::array<std::array<bool, 4>, 6> member{};         // must arrive at this epoch, unless dead
  std::array<std::array<bool, 4>, 6> arrived{};
  std::array<bool, 8> passed{};  // somebody has passed this epoch
  std::map<std::uint64_t, std::pair<Status, Owner>> outcomes;
};

// One epoch of process i: writes its cell, arrives, and sees the others' when it has passed.
Barrier::Outcome pass(World& world, Barrier::Party& party, std::size_t i, std::uint64_t epoch) {
  world.cells[epoch][i] = epoch * 10 + i;
  world.arrived[epoch][i] = true;
  const Barrier::Outcome outcome = party.arrive_and_wait(Deadline::never(), WaitStrategy::sleep);
  check(outcome.status == Status::ready || outcome.status == Status::peer_died,
        "a wait for ever ends with the epoch");
  check(outcome.epoch == epoch, "epochs are passed one after the other");
  world.passed[epoch] = true;
  const auto [known, first] =
      world.outcomes.emplace(epoch, std::pair(outcome.status, outcome.died));
  check(known->second == std::pair(outcome.status, outcome.died), "BARRIER-1: two outcomes");
  static_cast<void>(first);
  for (std::size_t other = 0; other < 4; ++other) {
    if (!world.member[epoch][other]) continue;
    if (world.arrived[epoch][other] && !has_ended(other)) {
      check(world.cells[epoch][other] == epoch * 10 + other, "BARRIER: a member's work is seen");
    }
    check(world.arrived[epoch][other] || has_ended(other), "BARRIER-2: an epoch has ended early");
  }
  return outcome;
}

// So many places have branches, here of two places each (tests/CMakeLists.txt).
constexpr std::uint32_t in_branches = 8;

// All have joined before the run begins, and arrive `epochs` times.
World& parties(Run& run, std::size_t count, std::size_t mortals, std::uint64_t epochs,
               Barrier::OnDeath on_death, std::uint32_t places = 0) {
  auto& world = run.ghost<World>(
      run, Barrier::Options{static_cast<std::uint32_t>(count), places, on_death}, count + 1);
  static constexpr std::array names{"party 0", "party 1", "party 2"};
  for (std::size_t i = 0; i < count; ++i) {
    Peers& peers = run.ghost<ModelPeers>(world.participants, i);
    auto& barrier = run.ghost<Barrier>(world.memory, peers);
    auto& party = run.ghost<Barrier::Party>(barrier.join());
    for (std::uint64_t epoch = 1; epoch <= epochs; ++epoch) world.member[epoch][i] = true;
    run.process(names[i], i < mortals, [&world, &party, i, epochs, on_death, last = count - 1] {
      for (std::uint64_t epoch = 1; epoch <= epochs; ++epoch) {
        const Barrier::Outcome outcome = pass(world, party, i, epoch);
        check(outcome.status == Status::ready || on_death == Barrier::OnDeath::report,
              "shrink reports no death");
        // The last one, who lives, does again what the dead had begun: no race with it.
        if (i == last && outcome.died) {
          world.cells[epoch][outcome.died.index()] = epoch * 10 + outcome.died.index();
        }
      }
      party.leave();
    });
  }
  return world;
}

// Two last arrivals that miss each other (control/last_arrivals): here a full fence stands between
// arrival and scan, so one of the two sees both.
void last_arrivals(Run& run) { parties(run, 2, 0, 1, Barrier::OnDeath::report); }

// A sleeper that misses epoch 1 because epoch 2 has failed (control/slow_sleeper): here 2 waits for
// the arrival of the slow one, who first hears of 1.
void slow_sleeper(Run& run) { parties(run, 3, 1, 2, Barrier::OnDeath::report); }

// The last to arrive ends the epoch, takes the sleepers' bit and dies before it wakes them: recovery
// does, though no word names the dead any more.
void dead_waker(Run& run) {
  auto& world = parties(run, 2, 1, 1, Barrier::OnDeath::report);
  auto& supervisor = run.ghost<ModelPeers>(world.participants, 2U);
  run.process("supervisor", false, [&supervisor] {
    while (!has_ended(0)) pause();
    supervisor.recover_dead();
  });
}

// Joining within the run: the first epoch opens when two are there, and waits for both. (Once, one
// that claimed the last place, and was overtaken by its own counting, took itself for a newcomer.)
void join(Run& run, bool mortal) {
  auto& world = run.ghost<World>(run, Barrier::Options{2, 3, Barrier::OnDeath::report}, 3U);
  static constexpr std::array names{"first", "second", "mortal"};
  for (std::size_t i = 0; i < (mortal ? 3U : 2U); ++i) {
    Peers& peers = run.ghost<ModelPeers>(world.participants, i);
    run.process(names[i], i == 2, [&world, &peers, mortal] {
      Barrier barrier(world.memory, peers);
      auto party = barrier.join();
      const Barrier::Outcome outcome =
          party.arrive_and_wait(Deadline::never(), WaitStrategy::sleep);
      check(outcome.status == Status::ready || has_ended(2), "nobody is taken for dead");
      check(mortal || outcome.epoch == 1, "BARRIER-5: a founder was left out of the first epoch");
    });
  }
}

// A newcomer to a barrier that two are using: from the epoch after the one that it joined in, the
// others wait for it, until it leaves.
void come_in(World& world, Peers& peers) {
  Barrier barrier(world.memory, peers);
  auto party = barrier.join();
  const auto well = [](const Barrier::Outcome& outcome) {
    return outcome.status == Status::ready ||
           (outcome.status == Status::peer_died && has_ended(outcome.died.index()));
  };
  const Barrier::Outcome joined = party.wait(Deadline::never(), WaitStrategy::sleep);
  check(well(joined), "joining ends with an epoch");
  for (std::size_t i = 0; joined.epoch > 0 && joined.epoch <= 2 && i < 2; ++i) {
    check(world.arrived[joined.epoch][i] || has_ended(i), "BARRIER-2: a newcomer has passed early");
    if (!world.arrived[joined.epoch][i]) continue;
    check(world.cells[joined.epoch][i] == joined.epoch * 10 + i, "BARRIER: and sees the work");
  }
  check(!world.passed[joined.epoch + 1], "BARRIER-2: an epoch has ended without its newest member");
  const Barrier::Outcome next = party.arrive_and_wait(Deadline::never(), WaitStrategy::sleep);
  check(well(next) && next.epoch == joined.epoch + 1, "and goes on from there");
}

// Party 0 may die, if `mortal`.
World& two_parties(Run& run, std::uint32_t places, bool mortal, std::uint32_t parties = 2) {
  auto& world =
      run.ghost<World>(run, Barrier::Options{parties, places, Barrier::OnDeath::report}, places);
  static constexpr std::array names{"party 0", "party 1", "party 2"};
  for (std::size_t i = 0; i < parties; ++i) {
    Peers& peers = run.ghost<ModelPeers>(world.participants, i);
    auto& barrier = run.ghost<Barrier>(world.memory, peers);
    auto& party = run.ghost<Barrier::Party>(barrier.join());
    for (std::uint64_t epoch = 1; epoch <= 2; ++epoch) world.member[epoch][i] = true;
    run.process(names[i], mortal && i == 0, [&world, &party, i] {
      for (std::uint64_t epoch = 1; epoch <= 2; ++epoch) pass(world, party, i, epoch);
      party.leave();
    });
  }
  return world;
}

void late_join(Run& run, bool mortal, std::uint32_t places = 3, std::uint32_t parties = 2) {
  World& world = two_parties(run, places, false, parties);
  Peers& peers = run.ghost<ModelPeers>(world.participants, std::size_t{parties});
  run.process("newcomer", mortal, [&world, &peers] { come_in(world, peers); });
}

// A party dies, and who is started in its stead takes over its index and its place.
void replaced(Run& run, std::uint32_t places) {
  World& world = two_parties(run, places, true);
  auto& late = run.ghost<ModelPeers>(world.participants);
  run.process("successor", false, [&world, &late] {
    if (late.join()) come_in(world, late);
  });
}

// Who leaves, in the epoch `leaves_in`, gives its place to a newcomer, whose arrivals speak for both.
void successor(Run& run, std::uint64_t leaves_in) {
  auto& world = run.ghost<World>(run, Barrier::Options{2, 2, Barrier::OnDeath::report}, 3U);
  for (std::size_t i = 0; i < 2; ++i) {
    Peers& peers = run.ghost<ModelPeers>(world.participants, i);
    auto& barrier = run.ghost<Barrier>(world.memory, peers);
    auto& party = run.ghost<Barrier::Party>(barrier.join());
    run.process(i == 0 ? "stays" : "leaves", false, [&world, &party, i, leaves_in] {
      for (std::uint64_t epoch = 1; epoch <= 2; ++epoch) {
        if (i == 1 && epoch == leaves_in) {
          world.cells[0][1] = 11;
          break;
        }
        static_cast<void>(party.arrive_and_wait(Deadline::never(), WaitStrategy::sleep));
        if (epoch < leaves_in) continue;
        check(world.cells[0][1] == 11, "BARRIER: what was done before leaving is seen");
      }
      party.leave();
    });
  }
  Peers& peers = run.ghost<ModelPeers>(world.participants, 2U);
  auto& barrier = run.ghost<Barrier>(world.memory, peers);
  run.process("newcomer", false, [&barrier] {
    try {
      auto party = barrier.join(Deadline::now());
      static_cast<void>(party.arrive_and_wait(Deadline::never(), WaitStrategy::sleep));
    } catch (const Error&) {  // no place is free yet
    }
  });
}

// Two movers that see different members (control/two_movers): both parties arrive last while the
// newcomer joins. Here it is a member from the next epoch on, whose movers have read this one's end.
void two_movers(Run& run) { late_join(run, false); }

// A recoverer that wakes late and repairs a newcomer's claim (control/newcomer): another recovers the
// dead meanwhile, a newcomer joins at its index and claims its place in the barrier. Late before it
// reads the place, the recoverer must find the newcomer in the table; late after that, another stamp.
void newcomer(Run& run) {
  auto& world = run.ghost<World>(run, Barrier::Options{1, 2, Barrier::OnDeath::shrink}, 2U);
  Peers& peers = run.ghost<ModelPeers>(world.participants, 0U);
  auto& barrier = run.ghost<Barrier>(world.memory, peers);
  auto& party = run.ghost<Barrier::Party>(barrier.join());
  run.process("mortal", true, [&party] { party.leave(); });
  auto& recoverer = run.ghost<ModelPeers>(world.participants, 1U);
  run.process("recoverer", true, [&recoverer] { recoverer.recover_dead(); });
  auto& late = run.ghost<ModelPeers>(world.participants);
  run.process("newcomer", false, [&world, &late] {
    if (!late.join()) return;
    Barrier its(world.memory, late);
    auto mine = its.join();
    check(its.members() >= 1, "a slow recoverer has marked a newcomer as gone");
    static_cast<void>(mine.wait(Deadline::never(), WaitStrategy::sleep));
    check(its.members() >= 1, "a slow recoverer has marked a newcomer as gone");
  });
}

// One leaves while the other waits for it.
void leave(Run& run) {
  auto& world = run.ghost<World>(run, Barrier::Options{2, 2, Barrier::OnDeath::report}, 2U);
  for (std::size_t i = 0; i < 2; ++i) {
    Peers& peers = run.ghost<ModelPeers>(world.participants, i);
    auto& barrier = run.ghost<Barrier>(world.memory, peers);
    auto& party = run.ghost<Barrier::Party>(barrier.join());
    world.member[1][i] = true;
    run.process(i == 0 ? "stays" : "leaves", i == 1, [&world, &party, i] {
      if (i == 0) {
        pass(world, party, 0, 1);
        pass(world, party, 0, 2);
        check(world.cells[1][1] == 11 || has_ended(1), "what was done before leaving is seen");
      } else {
        world.cells[1][1] = 11;
        world.arrived[1][1] = true;
        party.leave();
      }
    });
  }
}

}  // namespace

std::vector<Scenario> barrier_scenarios() {
  using enum Barrier::OnDeath;
  const auto awake = [](int preemptions, int stale) {
    return Bounds{.preemptions = preemptions, .stale = stale, .inner_timeouts = false};
  };
  const auto deaths = [](int preemptions, int stale, int died) {
    return Bounds{.preemptions = preemptions, .deaths = died, .stale = stale};
  };
  return {
      {"barrier/newcomer", deaths(2, 1, 2), newcomer},
      {"barrier/last_arrivals", awake(3, 2), last_arrivals},
      {"barrier/slow_sleeper", deaths(1, 1, 1), slow_sleeper},
      {"barrier/two_movers", awake(2, 0), two_movers},
      {"barrier/dead_waker",
       {.preemptions = 2, .deaths = 1, .stale = 0, .inner_timeouts = false},
       dead_waker},
      {"barrier/two", awake(3, 2), [](Run& run) { parties(run, 2, 0, 2, report); }},
      {"barrier/three", awake(1, 1), [](Run& run) { parties(run, 3, 0, 1, report); }},
      {"barrier/three_epochs", awake(2, 1), [](Run& run) { parties(run, 2, 0, 3, report); }},
      {"barrier/death", deaths(2, 1, 1), [](Run& run) { parties(run, 2, 1, 2, report); }},
      {"barrier/shrink", deaths(1, 1, 1), [](Run& run) { parties(run, 3, 1, 2, shrink); }},
      {"barrier/two_deaths", deaths(1, 0, 2), [](Run& run) { parties(run, 3, 2, 2, report); }},
      {"barrier/join", awake(2, 1), [](Run& run) { join(run, false); }},
      {"barrier/dead_joiner", deaths(1, 1, 1), [](Run& run) { join(run, true); }},
      {"barrier/late_join", awake(1, 1), [](Run& run) { late_join(run, false); }},
      {"barrier/late_join_fences", awake(0, 3), [](Run& run) { late_join(run, false); }},
      {"barrier/dead_late_joiner", deaths(1, 0, 1), [](Run& run) { late_join(run, true); }},
      {"barrier/replaced", deaths(1, 1, 1), [](Run& run) { replaced(run, 2); }},
      {"barrier/successor", awake(2, 1), [](Run& run) { successor(run, 1); }},
      {"barrier/late_successor", awake(2, 1), [](Run& run) { successor(run, 2); }},
      {"barrier/leave", deaths(2, 1, 1), leave},
      {"barrier/branches", awake(2, 1),
       [](Run& run) { parties(run, 3, 0, 1, report, in_branches); }},
      {"barrier/branches_epochs", awake(1, 0),
       [](Run& run) { parties(run, 3, 0, 2, report, in_branches); }},
      {"barrier/branches_death", deaths(1, 0, 1),
       [](Run& run) { parties(run, 3, 1, 2, report, in_branches); }},
      {"barrier/branches_two_deaths", deaths(0, 0, 2),
       [](Run& run) { parties(run, 3, 2, 2, report, in_branches); }},
      {"barrier/branches_opened", awake(1, 1),
       [](Run& run) { late_join(run, false, in_branches); }},
      {"barrier/branches_opened_by_the_dead", deaths(1, 0, 1),
       [](Run& run) { late_join(run, true, in_branches); }},
      {"barrier/branches_joined", awake(1, 0),
       [](Run& run) { late_join(run, false, in_branches, 3); }},
  };
}

}  // namespace heddle::model

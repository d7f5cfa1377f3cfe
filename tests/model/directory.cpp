// The directory: a name is made once, whoever dies. And the participants: a place has one owner.

#include "heddle/shm/directory.hpp"
#include "heddle/sync/board.hpp"
#include "model/participants.hpp"
#include "model/scenarios.hpp"

namespace heddle::model {
namespace {

struct World {
  World(Run& run, std::size_t places)
      : participants(run, places),
        memory(run.memory("segment", 1024)),
        header(*reinterpret_cast<SegmentHeader*>(memory.data())),
        directory(memory, 768, header,
                  {reinterpret_cast<DirectoryEntry*>(memory.data() + 512), 2}) {
    header.heap_used.store(768, relaxed);
    participants.repair_with([this](const Dead& dead) { directory.repair(dead); });
  }
  Participants participants;
  std::span<std::byte> memory;
  SegmentHeader& header;
  Directory directory;
  std::array<const std::byte*, 2> object{};
  int made = 0;
};

const Directory::Spec spec{ObjectKind::buffer, element_type<std::uint64_t>(), 8};

void make(World& world, Peers& peers, const char* name, std::size_t which,
          bool may_be_full = false) {
  std::span<std::byte> object;
  try {
    object = world.directory.find_or_create(
        name, spec, peers, Deadline::never(),
        [](std::span<std::byte> fresh) { *reinterpret_cast<std::uint64_t*>(fresh.data()) = 7; });
  } catch (const Error& error) {
    check(may_be_full && error.code() == Errc::no_space, "a name can be made");
    return;
  }
  check(*reinterpret_cast<std::uint64_t*>(object.data()) == 7, "DIR-2: an object is complete");
  if (world.object[which] == nullptr) world.object[which] = object.data();
  check(world.object[which] == object.data(), "DIR-1: a name is in two places");
}

World& creators(Run& run, std::size_t mortals, std::size_t count) {
  auto& world = run.ghost<World>(run, 3U);
  static constexpr std::array names{"creator 0", "creator 1", "creator 2"};
  for (std::size_t i = 0; i < count; ++i) {
    Peers& peers = run.ghost<ModelPeers>(world.participants, i);
    run.process(names[i], i < mortals, [&world, &peers] { make(world, peers, "weights", 0); });
  }
  return world;
}

// The creator finishes, takes the sleepers' bit and dies before it wakes them: recovery does.
void dead_waker(Run& run) {
  World& world = creators(run, 1, 2);
  auto& supervisor = run.ghost<ModelPeers>(world.participants, 2U);
  run.process("supervisor", false, [&supervisor] {
    while (!has_ended(0)) pause();
    supervisor.recover_dead();
  });
}

// The dead creator's name is taken over by one who has not looked whether it lives: it finds ORPHAN,
// set by another, and writes the entry's fields anew. That the dead one's writes are over it knows
// from that word alone (it was relaxed once: a race).
void orphan(Run& run) {
  World& world = creators(run, 1, 2);
  auto& recoverer = run.ghost<ModelPeers>(world.participants, 2U);
  run.process("recoverer", true, [&recoverer] { recoverer.recover_dead(); });
}

// A name made twice past a tombstone (control/tombstone): "a" and "c" would both go to the first
// entry. The dead creator's is an ORPHAN for ever, which the makers of "c" go on to pass.
void tombstone(Run& run) {
  auto& world = run.ghost<World>(run, 3U);
  static constexpr std::array names{"mortal", "creator", "late creator"};
  for (std::size_t i = 0; i < 3; ++i) {
    auto& peers = run.ghost<ModelPeers>(world.participants, i);
    run.process(names[i], i == 0, [&world, &peers, i] {
      if (i == 2) peers.recover_dead();
      make(world, peers, i == 0 ? "a" : "c", i == 0 ? 0 : 1);
    });
  }
}

void two_names(Run& run) {
  auto& world = run.ghost<World>(run, 2U);
  for (std::size_t i = 0; i < 2; ++i) {
    Peers& peers = run.ghost<ModelPeers>(world.participants, i);
    run.process(i == 0 ? "creator 0" : "creator 1", i == 0, [&world, &peers, i] {
      make(world, peers, i == 0 ? "a" : "b", i);
      make(world, peers, i == 0 ? "b" : "a", 1 - i);
    });
  }
}

void finder(Run& run) {
  auto& world = run.ghost<World>(run, 2U);
  Peers& first = run.ghost<ModelPeers>(world.participants, 0U);
  run.process("creator", true, [&world, &first] { make(world, first, "weights", 0); });
  Peers& second = run.ghost<ModelPeers>(world.participants, 1U);
  run.process("finder", false, [&world, &second] {
    try {
      const auto object =
          world.directory.find("weights", spec.kind, spec.element, second, Deadline::never());
      check(*reinterpret_cast<std::uint64_t*>(object.data()) == 7, "DIR-2: an object is complete");
    } catch (const Error& error) {
      check(error.code() == Errc::not_found, "a name is found or not");
    }
  });
}

// A recoverer that wakes late and repairs a newcomer's claim (control/newcomer): another recovers the
// dead meanwhile, a newcomer joins at its index and takes the name over. The slow one then wants it too.
void newcomer(Run& run) {
  auto& world = run.ghost<World>(run, 2U);
  Peers& first = run.ghost<ModelPeers>(world.participants, 0U);
  run.process("creator", true, [&world, &first] { make(world, first, "weights", 0); });
  auto& recoverer = run.ghost<ModelPeers>(world.participants, 1U);
  run.process("recoverer", true, [&world, &recoverer] {
    recoverer.recover_dead();
    make(world, recoverer, "weights", 0);
  });
  auto& late = run.ghost<ModelPeers>(world.participants);
  run.process("newcomer", false, [&world, &late] {
    if (late.join()) make(world, late, "weights", 0);
  });
}

// ---- participants

// Two places: a member that may die, two that recover, one that joins. Each guards what belongs to
// its place by a plain word, as all its claimed objects would be.
struct Table {
  Table(Run& run, std::size_t places)
      : participants(run, places),
        guarded(run.shared<std::array<std::array<std::uint64_t, 8>, 3>>("guarded")) {
    owner.fill(99);
  }
  void own(Owner place) {
    std::size_t& mine = owner[place.index()];
    check(mine == 99 || has_ended(mine), "PART: a place has two owners");
    mine = self();
    ++guarded[place.index()][0];
  }
  Participants participants;
  std::array<std::array<std::uint64_t, 8>, 3>& guarded;
  std::array<std::size_t, 3> owner{};
};

void rejoin(Run& run) {
  auto& table = run.ghost<Table>(run, 2U);
  auto& mortal = run.ghost<ModelPeers>(table.participants, 0U);
  run.process("mortal", true, [&table, &mortal] {
    table.own(mortal.self());
    table.owner[0] = 99;
    mortal.leave();
  });
  auto& recoverer = run.ghost<ModelPeers>(table.participants, 1U);
  run.process("recoverer", true, [&recoverer] { recoverer.recover_dead(); });
  for (const char* name : {"newcomer 2", "newcomer 3"}) {
    auto& late = run.ghost<ModelPeers>(table.participants);
    run.process(name, false, [&table, &late] {
      if (late.join()) table.own(late.self());
    });
  }
}

// The one place comes free when its owner has gone.
void comes_free(Run& run) {
  auto& table = run.ghost<Table>(run, 1U);
  auto& mortal = run.ghost<ModelPeers>(table.participants, 0U);
  run.process("mortal", true, [&mortal] { mortal.leave(); });
  auto& other = run.ghost<ModelPeers>(table.participants);
  run.process("recoverer", true, [&other] { other.recover_dead(); });
  auto& late = run.ghost<ModelPeers>(table.participants);
  run.process("newcomer", false, [&late] {
    const bool gone = has_ended(0);
    check(late.join() || !gone, "PART-3: the place of the dead comes free");
  });
}

// What the dead had is repaired before its place is free: a newcomer finds all of it.
void repaired_first(Run& run) {
  auto& table = run.ghost<Table>(run, 2U);
  auto& left = run.shared<std::array<std::uint64_t, 8>>("left");
  auto& word = run.shared<std::array<Atomic<std::uint64_t>, 8>>("word")[0];
  table.participants.repair_with([&word](const Dead& dead) {
    for (;;) {
      std::uint64_t seen = word.load(acquire("PART.test_repair"));
      if ((seen & 0xffff) != dead.owner().bits()) return;
      if (!dead.still()) return;
      if (word.compare_exchange(seen, seen >> 16 << 16, acq_rel("PART.test_repair"))) return;
    }
  });
  const auto claim = [&word](Owner me) {
    std::uint64_t seen = word.load(relaxed);
    for (;;) {
      if ((seen & 0xffff) != 0) return false;
      const std::uint64_t mine = ((seen >> 16) + 1) << 16 | me.bits();
      if (word.compare_exchange(seen, mine, acq_rel("PART.test_claim"))) return true;
    }
  };
  auto& mortal = run.ghost<ModelPeers>(table.participants, 0U);
  run.process("mortal", true, [&mortal, claim, &left] {
    if (claim(mortal.self())) left[0] = 1;
  });
  for (std::size_t i = 1; i < 2; ++i) {
    auto& recoverer = run.ghost<ModelPeers>(table.participants, i);
    run.process("recoverer", true, [&recoverer] { recoverer.recover_dead(); });
  }
  auto& late = run.ghost<ModelPeers>(table.participants);
  run.process("newcomer", false, [&late, claim, &word, &left] {
    if (!late.join()) return;
    std::uint64_t seen = word.load(relaxed);
    check(late.self().index() != 0 || (seen & 0xffff) != 1, "PART-3: a place was free too soon");
    if (!claim(late.self())) return;
    left[0] = 2;
    seen = word.load(relaxed);
    check((seen & 0xffff) == late.self().bits(),
          "a slow recoverer has repaired a newcomer's claim");
  });
}

// Whoever sees ALIVE(t) finds the token of t held. The kernel's lock is a word here that orders
// nothing, as if system calls were no fences.
void token(Run& run) {
  auto& table = run.ghost<Table>(run, 1U);
  auto& held = run.shared<std::array<Atomic<std::uint64_t>, 8>>("token")[0];
  run.process("newcomer", false, [&table, &held] {
    held.store(1, relaxed);
    static_cast<void>(table.participants.table().join(Participants::incarnation(self())));
  });
  run.process("observer", false, [&table, &held] {
    if (ParticipantWord::state(table.participants.table().look(0)) != ParticipantState::alive)
      return;
    check(held.load(relaxed) == 1, "PART-1: a living process is taken for dead");
  });
}

}  // namespace

std::vector<Scenario> directory_scenarios() {
  return {
      {"directory/two_creators",
       {.preemptions = 2, .stale = 2, .inner_timeouts = false},
       [](Run& run) { creators(run, 0, 2); }},
      {"directory/dead_creator",
       {.preemptions = 2, .deaths = 1, .stale = 1},
       [](Run& run) { creators(run, 1, 2); }},
      // Two find the dead creator. One is slow, and finds its repair done by the other, who then claims the
      // name: the word that it has seen is not damaged.
      {"directory/three",
       {.preemptions = 2, .deaths = 1, .stale = 1},
       [](Run& run) { creators(run, 1, 3); }},
      {"directory/two_deaths",
       {.preemptions = 1, .deaths = 2, .stale = 0},
       [](Run& run) { creators(run, 2, 3); }},
      {"directory/dead_waker",
       {.preemptions = 1, .deaths = 1, .stale = 2, .inner_timeouts = false},
       dead_waker},
      {"directory/orphan", {.preemptions = 2, .deaths = 1, .stale = 1}, orphan},
      {"directory/tombstone", {.preemptions = 2, .deaths = 1, .stale = 1}, tombstone},
      {"directory/two_names", {.preemptions = 2, .deaths = 1, .stale = 1}, two_names},
      {"directory/newcomer", {.preemptions = 2, .deaths = 1, .stale = 1}, newcomer},
      {"directory/finder", {.preemptions = 2, .deaths = 1, .stale = 1}, finder},
  };
}

std::vector<Scenario> participants_scenarios() {
  return {
      {"participants/rejoin", {.preemptions = 2, .deaths = 2, .stale = 1}, rejoin},
      {"participants/comes_free", {.preemptions = 3, .deaths = 2, .stale = 1}, comes_free},
      {"participants/token", {.stale = 2}, token},
      {"participants/repaired_first", {.preemptions = 3, .deaths = 2, .stale = 1}, repaired_first},
  };
}

}  // namespace heddle::model

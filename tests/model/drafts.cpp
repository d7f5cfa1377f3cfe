// Protocols of earlier drafts, each with the schedule that broke it. The scenario of the same name in
// its mechanism's group has the same set-up, and what is there now.

#include "heddle/base/wait.hpp"
#include "model/scenarios.hpp"

namespace heddle::model {
namespace {

using Word = Atomic<std::uint64_t>;
constexpr std::array party{"party 0", "party 1"};

// Two last arrivals that miss each other: without a fence between arrival and look, each may look
// before it can see the other's, and nobody ends the epoch.
void last_arrivals(Run& run) {
  struct Barrier {
    std::array<Word, 2> arrived;
    Word ended;
  };
  auto& barrier = run.shared<Barrier>("barrier");
  for (std::size_t i = 0; i < 2; ++i) {
    run.process(party[i], false, [&barrier, i] {
      barrier.arrived[i].store(1, release("DRAFT.arrive"));
      if (barrier.arrived[1 - i].load(acquire("DRAFT.arrive")) == 1) {
        barrier.ended.store(1, release("DRAFT.end"));
      }
    });
  }
  run.finally([&barrier] {
    check(barrier.ended.load(relaxed) == 1, "an epoch ends when all have arrived at it");
  });
}

// A sleeper that misses epoch 1 because epoch 2 has failed. One word for the outcome, and a death
// ends the open epoch at once: all arrive at 1, one is slow to look; the next arrives at 2 and finds
// a third dead. The slow one reads "2, died": whether its step was done, it cannot know.
void slow_sleeper(Run& run) {
  struct Barrier {
    std::array<Word, 3> arrived;
    Word outcome;  // epoch, and whether it failed
  };
  constexpr std::uint64_t died = 256;
  auto& barrier = run.shared<Barrier>("barrier");
  const auto end = [&barrier](std::uint64_t epoch, std::uint64_t how) {
    std::uint64_t before = epoch - 1;
    barrier.outcome.compare_exchange(before, epoch | how, seq_cst("DRAFT.end"));
  };
  const auto arrive = [&barrier, end](std::size_t i, std::uint64_t epoch) {
    barrier.arrived[i].store(epoch, seq_cst("DRAFT.arrive"));
    for (Word& one : barrier.arrived) {
      if (one.load(seq_cst("DRAFT.arrive")) < epoch) return;
    }
    end(epoch, 0);
  };
  const auto await = [&barrier](std::uint64_t epoch) {
    std::uint64_t outcome = 0;
    while (outcome = barrier.outcome.load(seq_cst("DRAFT.end")), outcome % died < epoch) pause();
    return outcome;
  };
  run.process("mortal", true, [arrive, await] {
    arrive(0, 1);
    await(1);
    arrive(0, 2);
  });
  run.process("quick", false, [&barrier, arrive, await, end] {
    arrive(1, 1);
    await(1);
    arrive(1, 2);
    if (is_dead(0) && barrier.arrived[0].load(seq_cst("DRAFT.arrive")) < 2) end(2, died);
  });
  run.process("slow", false, [arrive, await] {
    arrive(2, 1);
    check(await(1) == 1, "whoever waits for an epoch hears how it ended");
  });
}

// Two movers that see different members: who they are, each mover looks up by itself, and a newcomer
// is one at once. One mover has looked before it came, and ends the epoch without it.
void two_movers(Run& run) {
  struct Barrier {
    Word members;
    std::array<Word, 3> arrived;
    Word ended;
  };
  auto& barrier = run.shared<Barrier>("barrier");
  barrier.members.store(0b11, relaxed);
  const auto arrive = [&barrier](std::size_t i) {
    barrier.arrived[i].store(1, seq_cst("DRAFT.arrive"));
    const std::uint64_t members = barrier.members.load(seq_cst("DRAFT.members"));
    for (std::size_t other = 0; other < 3; ++other) {
      const bool is_member = (members >> other & 1) != 0;
      if (is_member && barrier.arrived[other].load(seq_cst("DRAFT.arrive")) == 0) return;
    }
    barrier.ended.store(1, seq_cst("DRAFT.end"));
  };
  for (std::size_t i = 0; i < 2; ++i) run.process(party[i], false, [arrive, i] { arrive(i); });
  run.process("newcomer", false, [&barrier, arrive] {
    barrier.members.fetch_or(0b100, seq_cst("DRAFT.members"));
    if (barrier.ended.load(seq_cst("DRAFT.end")) == 1) return;  // a member of the next one
    check(barrier.ended.load(seq_cst("DRAFT.end")) == 0,
          "an epoch has ended without its newest member");
    arrive(2);
  });
}

// A name made twice past a tombstone: an entry whose creator has died was FREE again. It is at "a"
// where "b" would go too, so that "b" is made in the next one; its creator dies, the entry is free;
// and the next who wants "b" makes it there.
void tombstone(Run& run) {
  constexpr std::uint64_t made = 256;
  auto& entries = run.shared<std::array<Word, 3>>("entries");  // 0: free
  auto& place = run.ghost<std::array<std::size_t, 2>>(std::array<std::size_t, 2>{9, 9});
  const auto make = [&entries](std::uint64_t name) {
    for (std::size_t i = 0;; ++i) {
      std::uint64_t word = 0;
      if (entries[i].compare_exchange(word, name, acq_rel("DRAFT.claim"))) {
        entries[i].store(name | made, release("DRAFT.ready"));
        return i;
      }
      if (word % made == name) return i;
    }
  };
  run.process("mortal", true, [make] { make('a'); });
  run.process("creator", false, [&place, make] { place[0] = make('b'); });
  run.process("late creator", false, [&entries, &place, make] {
    std::uint64_t claimed = 'a';
    if (is_dead(0)) entries[0].compare_exchange(claimed, 0, acq_rel("DRAFT.repair"));
    place[1] = make('b');
  });
  run.finally([&place] { check(place[0] == place[1], "a name is in two places"); });
}

// A recoverer that wakes late and repairs a newcomer's claim: the word says who owns it and nothing
// else. The recoverer has read it and sleeps; another one repairs it, and the place is free; a
// newcomer joins there and claims the word, which reads as before; the recoverer's CAS takes it.
void newcomer(Run& run) {
  struct Table {
    Word place;  // its owner's incarnation; 0: free
    Word word;   // its owner's place
  };
  constexpr std::uint64_t first = 1, second = 2, here = 1;
  auto& table = run.shared<Table>("table");
  table.place.store(first, relaxed);
  const auto claim = [&table] {
    std::uint64_t unowned = 0;
    return table.word.compare_exchange(unowned, here, seq_cst("DRAFT.claim"));
  };
  const auto recover = [&table] {
    if (!is_dead(0)) return;
    std::uint64_t word = table.word.load(seq_cst("DRAFT.repair"));
    if (word == here && table.place.load(seq_cst("DRAFT.place")) == first) {
      table.word.compare_exchange(word, 0, seq_cst("DRAFT.repair"));
    }
    std::uint64_t dead = first;
    table.place.compare_exchange(dead, 0, seq_cst("DRAFT.place"));
  };
  run.process("mortal", true, [claim] { claim(); });
  run.process("recoverer", false, recover);
  run.process("newcomer", false, [&table, claim, recover] {
    recover();
    std::uint64_t free = 0;
    if (!table.place.compare_exchange(free, second, seq_cst("DRAFT.place")) || !claim()) return;
    check(table.word.load(seq_cst("DRAFT.claim")) == here,
          "a slow recoverer has repaired a newcomer's claim");
  });
}

struct Gate {
  Atomic<std::uint32_t> word;  // {count:31, sleepers:1}
  alignas(8) Word tokens;
};

void take_one(Gate& gate) {
  const auto took = [&gate] {
    std::uint64_t tokens = gate.tokens.load(relaxed);
    while (tokens != 0) {
      if (gate.tokens.compare_exchange(tokens, tokens - 1, relaxed)) return true;
    }
    return false;
  };
  while (!took()) {
    const std::uint32_t announced = gate.word.fetch_or(1, relaxed) | 1;
    fence(seq_cst("DRAFT.announced"));
    if (took()) return;
    futex_wait(gate.word, announced, 1'000'000'000);
  }
}

// One sleeper left behind by two wakes and one bit. Two sleep, and share the bit. The first wake
// takes it and wakes one; the second finds none, and wakes nobody; who was woken takes one token and
// leaves, and the other sleeps beside the second token.
void two_wakes(Run& run) {
  auto& gate = run.shared<Gate>("gate");
  for (const char* name : {"sleeper 0", "sleeper 1"}) {
    run.process(name, false, [&gate] { take_one(gate); });
  }
  run.process("changer", false, [&gate] {
    for (int i = 0; i < 2; ++i) {
      gate.tokens.fetch_add(1, relaxed);
      fence(seq_cst("DRAFT.changed"));
      std::uint32_t word = gate.word.load(relaxed);
      if ((word & 1) == 0) continue;
      if (gate.word.compare_exchange(word, (word + 2) & ~1U, relaxed)) futex_wake(gate.word, 1);
    }
  });
}

// A word that comes back. The bit outlives a wake, and one that finds nobody clears it, but leaves the
// count. Meanwhile a sleeper has announced itself with the raised count, and is slow to fall asleep;
// two tokens come, and no wake, since the bit is gone. Another announces itself, which makes the word
// what it was, and takes one token; the slow one falls asleep on it, beside the other.
void word_comes_back(Run& run) {
  auto& gate = run.shared<Gate>("gate");
  gate.word.store(1, relaxed);  // of somebody who did not sleep in the end
  run.process("slow", false, [&gate] { take_one(gate); });
  run.process("changer", false, [&gate] {
    for (std::uint64_t tokens : {0, 1, 1}) {  // the first has been taken meanwhile
      gate.tokens.fetch_add(tokens, relaxed);
      fence(seq_cst("DRAFT.changed"));
      std::uint32_t word = gate.word.load(relaxed);
      if ((word & 1) == 0 || !gate.word.compare_exchange(word, word + 2, relaxed)) continue;
      if (futex_wake(gate.word, 1) != 0) continue;
      word += 2;
      if (gate.word.compare_exchange(word, word & ~1U, relaxed)) {
        futex_wake(gate.word, all_sleepers);
      }
    }
  });
  run.process("quick", false, [&gate] {
    gate.word.fetch_or(1, relaxed);  // has looked, found nothing, and goes on from there
    take_one(gate);
  });
}

}  // namespace

std::vector<Scenario> draft_scenarios() {
  const Bounds bounds{.preemptions = 3, .deaths = 1, .stale = 1, .steps = 300};
  Bounds awake = bounds;
  awake.inner_timeouts = false;
  return {
      {"control/last_arrivals", bounds, last_arrivals, true},
      {"control/slow_sleeper", bounds, slow_sleeper, true},
      {"control/two_movers", bounds, two_movers, true},
      {"control/tombstone", bounds, tombstone, true},
      {"control/newcomer", bounds, newcomer, true},
      {"control/two_wakes", awake, two_wakes, true},
      {"control/word_comes_back",
       {.preemptions = 2, .stale = 0, .inner_timeouts = false, .steps = 300},
       word_comes_back,
       true},
  };
}

}  // namespace heddle::model

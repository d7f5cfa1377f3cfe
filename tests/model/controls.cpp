// Known-bad protocols, which the explorer must find: else it proves nothing.

#include "model/scenarios.hpp"

namespace heddle::model {
namespace {

using Word = Atomic<std::uint64_t>;

// Data by a plain store, a flag by a relaxed one.
void relaxed_message(Run& run) {
  auto& data = run.shared<std::uint64_t>("data");
  auto& flag = run.shared<Word>("flag");
  run.process("writer", false, [&] {
    data = 1;
    flag.store(1, relaxed);
  });
  run.process("reader", false, [&] {
    if (flag.load(acquire("CONTROL.flag")) == 1) check(data == 1, "the message is complete");
  });
}

// Both threads store, then look at the other's word, without fences: both may miss the other.
void store_buffering(Run& run) {
  auto* words = run.shared<std::array<Word, 16>>("words").data();
  auto& missed = run.ghost<std::array<bool, 2>>();
  for (std::size_t i = 0; i < 2; ++i) {
    run.process(i == 0 ? "one" : "two", false, [&missed, words, i] {
      words[i * 8].store(1, release("CONTROL.mine"));
      missed[i] = words[(1 - i) * 8].load(acquire("CONTROL.other")) == 0;
    });
  }
  run.finally([&missed] { check(!(missed[0] && missed[1]), "one of the two sees the other"); });
}

// A seqlock: odd while it is written. Its writer dies there, and its reader waits for ever.
void bare_seqlock(Run& run) {
  struct Lock {
    Word sequence;
    Word value;
  };
  auto& lock = run.shared<Lock>("seqlock");
  run.process("writer", true, [&] {
    lock.sequence.store(1, relaxed);
    fence(release("CONTROL.begin"));
    lock.value.store(7, relaxed);
    lock.sequence.store(2, release("CONTROL.end"));
  });
  run.process("reader", false, [&] {
    for (;;) {
      const std::uint64_t before = lock.sequence.load(acquire("CONTROL.end"));
      const std::uint64_t value = lock.value.load(relaxed);
      fence(acquire("CONTROL.recheck"));
      if (before % 2 == 0 && lock.sequence.load(relaxed) == before) {
        check(value == (before == 0 ? 0 : 7), "the value belongs to its sequence");
        return;
      }
      pause();
    }
  });
}

// A ring whose producers draw tickets: one dies with its ticket, and all later ones are stuck.
void ticket_ring(Run& run) {
  struct Ring {
    Word tail;
    std::array<Word, 4> cells;
  };
  auto& ring = run.shared<Ring>("ring");
  const auto push = [&ring](std::uint64_t value) {
    const std::uint64_t ticket = ring.tail.fetch_add(1, acq_rel("CONTROL.ticket"));
    ring.cells[ticket].store(value, release("CONTROL.cell"));
  };
  run.process("mortal", true, [push] { push(1); });
  run.process("producer", false, [push] { push(2); });
  run.process("consumer", false, [&ring] {
    for (std::size_t head = 0; head < 2; ++head) {  // in order: the first cell comes first
      while (ring.cells[head].load(acquire("CONTROL.cell")) == 0) {
        if (head > 0) return;
        pause();
      }
    }
  });
}

// The waker looks for a sleeper without a fence after its change.
void lost_wake(Run& run) {
  struct Gate {
    Word open;
    Atomic<std::uint32_t> sleepers;
  };
  auto& gate = run.shared<Gate>("gate");
  run.process("waker", false, [&] {
    gate.open.store(1, release("CONTROL.open"));
    if (gate.sleepers.load(acquire("CONTROL.sleepers")) != 0) {
      gate.sleepers.store(0, relaxed);
      futex_wake(gate.sleepers, all_sleepers);
    }
  });
  run.process("sleeper", false, [&] {
    while (gate.open.load(acquire("CONTROL.open")) == 0) {
      gate.sleepers.store(1, relaxed);
      fence(seq_cst("CONTROL.announced"));
      if (gate.open.load(acquire("CONTROL.open")) != 0) return;
      futex_wait(gate.sleepers, 1, 1'000'000'000);
    }
  });
}

// A count of sleepers, and one wake for each count: a dead sleeper's is never taken back, so that
// the waker, who wakes as many as are counted and waits until they have gone, waits for ever.
void counted_sleepers(Run& run) {
  struct Gate {
    Word open;
    Word count;
    Atomic<std::uint32_t> word;
  };
  auto& gate = run.shared<Gate>("gate");
  const auto sleep = [&gate] {
    gate.count.fetch_add(1, seq_cst("CONTROL.count"));
    while (gate.open.load(seq_cst("CONTROL.open")) == 0) futex_wait(gate.word, 0, 1'000'000'000);
    gate.count.fetch_add(~std::uint64_t{0}, seq_cst("CONTROL.count"));
  };
  run.process("mortal", true, sleep);
  run.process("sleeper", false, sleep);
  run.process("waker", false, [&gate] {
    gate.open.store(1, seq_cst("CONTROL.open"));
    while (gate.count.load(seq_cst("CONTROL.count")) != 0) {
      gate.word.fetch_add(1, relaxed);
      futex_wake(gate.word, all_sleepers);
      pause();
    }
  });
}

// A bounded attempts counter that all share, as in SCQ: a dequeuer that finds nothing takes one off,
// an enqueuer sets it back after its item. It dies before that, and its item is never looked for.
void shared_threshold(Run& run) {
  struct Ring {
    Word threshold;
    Word item;
    Word pushed;
  };
  auto& ring = run.shared<Ring>("ring");
  run.process("mortal", true, [&] {
    ring.item.store(1, seq_cst("CONTROL.item"));
    ring.threshold.store(2, seq_cst("CONTROL.threshold"));
  });
  run.process("consumer", false, [&] {
    if (!is_dead(0)) return;
    if (ring.item.load(seq_cst("CONTROL.item")) == 0) return;
    check(ring.threshold.load(seq_cst("CONTROL.threshold")) != 0, "an item that is there is found");
  });
}

// Two stores by one, read in the wrong order by another, though both use fences but only release.
void weak_fences(Run& run) {
  auto* words = run.shared<std::array<Word, 16>>("words").data();
  auto& missed = run.ghost<std::array<bool, 2>>();
  for (std::size_t i = 0; i < 2; ++i) {
    run.process(i == 0 ? "one" : "two", false, [&missed, words, i] {
      words[i * 8].store(1, relaxed);
      fence(acq_rel("CONTROL.fence"));
      missed[i] = words[(1 - i) * 8].load(relaxed) == 0;
    });
  }
  run.finally([&missed] { check(!(missed[0] && missed[1]), "one of the two sees the other"); });
}

// Fences order atomic accesses, not plain ones. Who finds `go` knows that the writer's fence came
// first (else it would have seen `asked`), but nothing synchronises with it: a race all the same.
void ordered_by_fences(Run& run) {
  auto& data = run.shared<std::uint64_t>("data");
  auto* words = run.shared<std::array<Word, 16>>("words").data();
  Word& asked = words[0];
  Word& go = words[8];
  run.process("writer", false, [&] {
    data = 1;
    fence(seq_cst("CONTROL.fence"));
    if (asked.load(relaxed) == 0) go.store(1, relaxed);
  });
  run.process("reader", false, [&] {
    asked.store(1, relaxed);
    fence(seq_cst("CONTROL.fence"));
    if (go.load(relaxed) == 1) check(data == 1, "the message is complete");
  });
}

// ---- good ones: the model must not see what C++ forbids

void message(Run& run) {
  auto& data = run.shared<std::uint64_t>("data");
  auto& flag = run.shared<Word>("flag");
  run.process("writer", false, [&] {
    data = 1;
    flag.store(1, release("CONTROL.flag"));
    flag.fetch_add(1, relaxed);  // goes on the release sequence
  });
  run.process("reader", false, [&] {
    if (flag.load(acquire("CONTROL.flag")) != 0) check(data == 1, "the message is complete");
  });
}

void fenced_message(Run& run) {
  auto& data = run.shared<std::uint64_t>("data");
  auto& flag = run.shared<Word>("flag");
  run.process("writer", false, [&] {
    data = 1;
    fence(release("CONTROL.flag"));
    flag.store(1, relaxed);
  });
  run.process("reader", false, [&] {
    if (flag.load(relaxed) != 0) {
      fence(acquire("CONTROL.flag"));
      check(data == 1, "the message is complete");
    }
  });
}

template <int way>
void store_buffering_good(Run& run) {
  auto* words = run.shared<std::array<Word, 16>>("words").data();
  auto& missed = run.ghost<std::array<bool, 2>>();
  for (std::size_t i = 0; i < 2; ++i) {
    run.process(i == 0 ? "one" : "two", false, [&missed, words, i] {
      const bool by_fence = way == 0 || (way == 2 && i == 0);
      if (by_fence) {
        words[i * 8].store(1, relaxed);
        fence(seq_cst("CONTROL.fence"));
        missed[i] = words[(1 - i) * 8].load(relaxed) == 0;
      } else {
        words[i * 8].store(1, seq_cst("CONTROL.access"));
        missed[i] = words[(1 - i) * 8].load(seq_cst("CONTROL.access")) == 0;
      }
    });
  }
  run.finally([&missed] { check(!(missed[0] && missed[1]), "one of the two sees the other"); });
}

// Independent reads of independent writes: with seq_cst fences all see one order.
void iriw(Run& run) {
  auto* words = run.shared<std::array<Word, 16>>("words").data();
  auto& saw = run.ghost<std::array<bool, 2>>();
  for (std::size_t i = 0; i < 2; ++i) {
    run.process(i == 0 ? "writer 1" : "writer 2", false,
                [words, i] { words[i * 8].store(1, relaxed); });
  }
  for (std::size_t i = 0; i < 2; ++i) {
    run.process(i == 0 ? "reader 1" : "reader 2", false, [&saw, words, i] {
      const bool first = words[i * 8].load(relaxed) != 0;
      fence(seq_cst("CONTROL.fence"));
      saw[i] = first && words[(1 - i) * 8].load(relaxed) == 0;
    });
  }
  run.finally([&saw] { check(!(saw[0] && saw[1]), "all see one order"); });
}

}  // namespace

std::vector<Scenario> control_scenarios() {
  const Bounds bounds{.preemptions = 3, .deaths = 1, .stale = 3, .steps = 300};
  Bounds alive = bounds;
  alive.deaths = 0;
  Bounds awake = bounds;
  awake.inner_timeouts = false;
  return {
      {"control/relaxed_message", bounds, relaxed_message, true},
      {"control/store_buffering", bounds, store_buffering, true},
      {"control/weak_fences", bounds, weak_fences, true},
      {"control/ordered_by_fences", bounds, ordered_by_fences, true},
      {"control/bare_seqlock", bounds, bare_seqlock, true},
      {"control/ticket_ring", bounds, ticket_ring, true},
      {"control/lost_wake", awake, lost_wake, true},
      {"control/counted_sleepers", bounds, counted_sleepers, true},
      {"control/shared_threshold", bounds, shared_threshold, true},
      {"litmus/message", alive, message},
      {"litmus/fenced_message", alive, fenced_message},
      {"litmus/store_buffering_fences", alive, store_buffering_good<0>},
      {"litmus/store_buffering_accesses", alive, store_buffering_good<1>},
      {"litmus/store_buffering_mixed", alive, store_buffering_good<2>},
      {"litmus/iriw", alive, iriw},
  };
}

}  // namespace heddle::model

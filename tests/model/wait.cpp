// Event and wait_for: nobody sleeps past a change.

#include "heddle/base/wait.hpp"
#include "model/scenarios.hpp"

namespace heddle::model {
namespace {

struct Gate {
  Event event;
  alignas(64) Atomic<std::uint64_t> state;
};

const auto nobody_dies = [] { return Status::ready; };

void wait_until(Gate& gate, std::uint64_t wanted) {
  const Status status = wait_for(
      gate.event, Deadline::never(), WaitStrategy::sleep,
      [&] { return gate.state.load(relaxed) >= wanted; }, nobody_dies);
  check(status == Status::ready, "a wait for ever ends with the state");
}

// Takes one of the tokens that state counts.
void take_one(Gate& gate) {
  const Status status = wait_for(
      gate.event, Deadline::never(), WaitStrategy::sleep,
      [&] {
        std::uint64_t tokens = gate.state.load(relaxed);
        while (tokens != 0) {
          if (gate.state.compare_exchange(tokens, tokens - 1, relaxed)) return true;
        }
        return false;
      },
      nobody_dies);
  check(status == Status::ready, "a wait for ever ends with a token");
}

void notify_all(Run& run) {
  auto& gate = run.shared<Gate>("gate");
  for (const char* name : {"sleeper 0", "sleeper 1"}) {
    run.process(name, false, [&gate] { wait_until(gate, 1); });
  }
  run.process("changer", false, [&gate] {
    gate.state.store(1, relaxed);
    gate.event.notify_all();
  });
}

// Two changers, and a sleeper that waits for both.
void two_changers(Run& run) {
  auto& gate = run.shared<Gate>("gate");
  run.process("sleeper", false, [&gate] { wait_until(gate, 2); });
  for (const char* name : {"changer 0", "changer 1"}) {
    run.process(name, false, [&gate] {
      gate.state.fetch_add(1, relaxed);
      gate.event.notify_all();
    });
  }
}

// One sleeper left behind by two wakes and one bit (control/two_wakes): here the bit outlives the
// first wake.
void two_wakes(Run& run) {
  auto& gate = run.shared<Gate>("gate");
  for (const char* name : {"sleeper 0", "sleeper 1"}) {
    run.process(name, false, [&gate] { take_one(gate); });
  }
  run.process("changer", false, [&gate] {
    for (int i = 0; i < 2; ++i) {
      gate.state.fetch_add(1, relaxed);
      gate.event.notify_one();
    }
  });
}

// A word that comes back, for a sleeper who announced it and is slow to fall asleep on it
// (control/word_comes_back): here the count moves whenever the bit is cleared.
void word_comes_back(Run& run) {
  auto& gate = run.shared<Gate>("gate");
  gate.event.announce();  // of somebody who did not sleep in the end
  run.process("slow", false, [&gate] { take_one(gate); });
  run.process("changer", false, [&gate] {
    for (std::uint64_t tokens : {0, 1, 1}) {  // the first has been taken meanwhile
      gate.state.fetch_add(tokens, relaxed);
      gate.event.notify_one();
    }
  });
  run.process("quick", false, [&gate] {
    gate.event.announce();  // has looked, found nothing, and goes on from there
    take_one(gate);
  });
}

// The two wakes after a change that is itself the fence.
void notify_after_rmw(Run& run) {
  auto& gate = run.shared<Gate>("gate");
  for (const char* name : {"sleeper 0", "sleeper 1"}) {
    run.process(name, false, [&gate] { take_one(gate); });
  }
  run.process("changer", false, [&gate] {
    for (int i = 0; i < 2; ++i) {
      gate.state.fetch_add(1, seq_cst("WAIT.by_rmw"));
      gate.event.notify_one_after_rmw();
    }
  });
}

void one_after_rmw(Run& run) {
  auto& gate = run.shared<Gate>("gate");
  run.process("sleeper", false, [&gate] { take_one(gate); });
  run.process("changer", false, [&gate] {
    gate.state.fetch_add(1, seq_cst("WAIT.by_rmw"));
    gate.event.notify_one_after_rmw();
  });
}

// A waker dies between change and wake: sleepers look again.
void dead_waker(Run& run) {
  auto& gate = run.shared<Gate>("gate");
  run.process("changer", true, [&gate] {
    gate.state.fetch_add(1, relaxed);
    gate.event.notify_all();
  });
  run.process("other", false, [&gate] {
    gate.state.fetch_add(1, relaxed);
    gate.event.notify_all();
  });
  run.process("sleeper", false, [&gate] { wait_until(gate, 1); });
}

// Recovery wakes by itself, not by the bit. A sleeper that was about to sleep finds the count moved,
// and that is all it has of the repair.
void recovered(Run& run) {
  auto& gate = run.shared<Gate>("gate");
  run.process("sleeper", false, [&gate] { wait_until(gate, 1); });
  run.process("recoverer", false, [&gate] {
    gate.state.store(1, relaxed);
    gate.event.wake_regardless();
  });
}

// A sleeper dies, perhaps with the wake-up that it was given; the other gets a token all the same.
void dead_sleeper(Run& run) {
  auto& gate = run.shared<Gate>("gate");
  run.process("mortal", true, [&gate] { take_one(gate); });
  run.process("sleeper", false, [&gate] { take_one(gate); });
  run.process("changer", false, [&gate] {
    for (int i = 0; i < 2; ++i) {
      gate.state.fetch_add(1, relaxed);
      gate.event.notify_one();
    }
  });
}

}  // namespace

std::vector<Scenario> wait_scenarios() {
  const Bounds awake{.preemptions = 2, .stale = 2, .inner_timeouts = false};
  const Bounds deaths{.preemptions = 2, .deaths = 1, .stale = 1};
  return {
      {"wait/notify_all", awake, notify_all},
      {"wait/two_changers", {.preemptions = 3, .stale = 2, .inner_timeouts = false}, two_changers},
      {"wait/two_wakes", awake, two_wakes},
      {"wait/word_comes_back",
       {.preemptions = 3, .stale = 0, .inner_timeouts = false},
       word_comes_back},
      {"wait/one_after_rmw",
       {.preemptions = 3, .stale = 2, .inner_timeouts = false},
       one_after_rmw},
      {"wait/notify_after_rmw", awake, notify_after_rmw},
      {"wait/recovered", awake, recovered},
      {"wait/dead_waker", deaths, dead_waker},
      {"wait/dead_sleeper",
       {.preemptions = 2, .deaths = 1, .stale = 1, .inner_timeouts = false},
       dead_sleeper},
  };
}

}  // namespace heddle::model

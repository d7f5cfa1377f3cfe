// Lock-freedom, seen from one survivor: wherever all others stop, it ends in a bounded number of its
// own steps. Only operations that promise it; the wait for another is no part of them.

#include "heddle/shm/directory.hpp"
#include "heddle/sync/barrier.hpp"
#include "heddle/sync/board.hpp"
#include "heddle/sync/slot.hpp"
#include "heddle/sync/task_queue.hpp"
#include "model/participants.hpp"
#include "model/scenarios.hpp"

namespace heddle::model {
namespace {

constexpr int steps = 400;

// ---- the method: who holds a lock and stops keeps all others from going on

template <bool is_lock>
void add(Run& run) {
  auto& lock = run.shared<std::array<Atomic<std::uint64_t>, 16>>("lock")[0];
  auto& count = run.shared<std::array<Atomic<std::uint64_t>, 16>>("count")[0];
  for (const char* name : {"one", "two"}) {
    run.process(name, false, [&lock, &count] {
      if (is_lock) {
        while (lock.exchange(1, acquire("CONTROL.lock")) != 0) pause();
      }
      std::uint64_t seen = count.load(relaxed);
      while (!count.compare_exchange(seen, seen + 1, relaxed)) continue;
      if (is_lock) lock.store(0, release("CONTROL.lock"));
    });
  }
}

// ---- the mechanisms

template <class Object>
struct World {
  template <class Options>
  World(Run& run, const Options& options, std::size_t places)
      : participants(run, places), memory(run.memory("object", Object::bytes(options))) {
    Object::format(memory, options);
    participants.repair_with([this](const Dead& dead) { Object::repair(memory, dead); });
  }
  Participants participants;
  std::span<std::byte> memory;
};

void slot(Run& run) {
  using Object = Slot<std::uint64_t>;
  auto& world =
      run.ghost<World<Object>>(run, Object::Options{.views = 1, .publishers = 2, .buffers = 4}, 4U);
  static constexpr std::array names{"publisher 0", "publisher 1", "viewer", "reader"};
  for (std::size_t i = 0; i < names.size(); ++i) {
    Peers& peers = run.ghost<ModelPeers>(world.participants, i);
    auto& its = run.ghost<Object>(world.memory, peers);
    auto* publisher = i < 2 ? &run.ghost<Object::Publisher>(its.publisher()) : nullptr;
    run.process(names[i], i == 0, [&its, publisher, i] {
      if (publisher != nullptr) {
        for (std::uint64_t n = 1; n <= 2; ++n) {
          check(publisher->publish(i * 8 + n) == Status::ready, "publish finds a buffer");
        }
      } else if (i == 2) {
        auto reader = its.reader();
        auto view = reader.pull();
        check(view.reading().status != Status::busy, "a view is had");
      } else {
        std::uint64_t value = 0;
        static_cast<void>(its.pull(value));
      }
    });
  }
}

void queue(Run& run) {
  using Object = TaskQueue<std::uint64_t>;
  auto& world = run.ghost<World<Object>>(run, Object::Options{2}, 3U);
  static constexpr std::array names{"mortal", "one", "two"};
  for (std::size_t i = 0; i < names.size(); ++i) {
    Peers& peers = run.ghost<ModelPeers>(world.participants, i);
    run.process(names[i], i == 0, [&world, &peers, i] {
      Object its(world.memory, peers);
      static_cast<void>(its.try_push(i));
      auto task = its.try_pop();
      if (task) static_cast<void>(i == 1 ? task.fail() : task.complete());
      if (i == 2) static_cast<void>(its.close());
    });
  }
}

// What a task may come to: each way to end it, a dead letter's, and who asks for the result.
void queue_ends(Run& run) {
  using Object = TaskQueue<std::uint64_t>;
  const Object::Options options{.capacity = 2,
                                .max_tries = 1,
                                .lease_timeout = std::chrono::milliseconds(50),
                                .result_bytes = 8,
                                .results = 2};
  auto& world = run.ghost<World<Object>>(run, options, 3U);
  Peers& first = run.ghost<ModelPeers>(world.participants, 0U);
  Object filler(world.memory, first);
  const TaskId letter = filler.push(1).id;
  static_cast<void>(filler.pop().fail("no"));
  const TaskId id = filler.push(2).id;
  static constexpr std::array names{"mortal", "one", "two"};
  for (std::size_t i = 0; i < names.size(); ++i) {
    Peers& peers = i == 0 ? first : run.ghost<ModelPeers>(world.participants, i);
    run.process(names[i], i == 0, [&world, &peers, letter, id, i] {
      Object its(world.memory, peers);
      if (i == 0) static_cast<void>(its.retry(letter));
      if (i == 1) static_cast<void>(its.drop(letter));
      if (i == 2) static_cast<void>(its.dead_letters());
      auto task = its.try_pop();
      if (i == 1) static_cast<void>(task.extend());
      if (i == 0) static_cast<void>(task.complete(std::uint64_t{7}));
      if (i == 1) static_cast<void>(task.fail("no"));
      std::uint64_t result = 0;
      if (i == 2) static_cast<void>(its.result(id, result, Deadline::now()));
      if (i == 2) static_cast<void>(its.close()), static_cast<void>(its.reopen());
    });
  }
}

// Arriving and leaving wait for nobody.
void barrier(Run& run, std::uint32_t places) {
  auto& world = run.ghost<World<Barrier>>(run, Barrier::Options{3, places}, 3U);
  static constexpr std::array names{"mortal", "one", "two"};
  for (std::size_t i = 0; i < names.size(); ++i) {
    Peers& peers = run.ghost<ModelPeers>(world.participants, i);
    auto& its = run.ghost<Barrier>(world.memory, peers);
    auto& party = run.ghost<Barrier::Party>(its.join());
    run.process(names[i], i == 0, [&party] {
      static_cast<void>(party.arrive());
      static_cast<void>(party.wait(Deadline::now()));
      party.leave();
    });
  }
}

void board(Run& run) {
  auto& world = run.ghost<World<Board>>(run, Board::Options{2}, 3U);
  static constexpr std::array names{"mortal", "one", "two"};
  for (std::size_t i = 0; i < names.size(); ++i) {
    Peers& peers = run.ghost<ModelPeers>(world.participants, i);
    run.process(names[i], i == 0, [&world, &peers] {
      Board its(world.memory, peers);
      std::uint32_t item = 0;
      for (int n = 0; n < 2; ++n) {
        if (its.take(1, item, Deadline::now()) == Status::ready) its.finish(item);
      }
    });
  }
}

// A recoverer that stops in the middle blocks nobody: others recover the same dead, and join.
void recovery(Run& run) {
  auto& world = run.ghost<World<Board>>(run, Board::Options{1}, 2U);
  Peers& first = run.ghost<ModelPeers>(world.participants, 0U);
  run.process("mortal", true, [&world, &first] {
    Board its(world.memory, first);
    std::uint32_t item = 0;
    if (its.take(1, item, Deadline::now()) == Status::ready) its.finish(item);
  });
  auto& second = run.ghost<ModelPeers>(world.participants, 1U);
  run.process("recoverer", false, [&second] { second.recover_dead(); });
  auto& late = run.ghost<ModelPeers>(world.participants);
  run.process("newcomer", false, [&late] {
    const bool gone = has_died(0);
    check(late.join() || !gone, "the place of the dead comes free");
  });
}

}  // namespace

std::vector<Scenario> progress_scenarios() {
  const auto alone = [](int preemptions, int deaths, int stale) {
    return Bounds{.preemptions = preemptions, .deaths = deaths, .stale = stale, .alone = steps};
  };
  return {
      {"control/lock", alone(1, 0, 0), add<true>, true},
      {"litmus/alone", alone(2, 0, 1), add<false>},
      {"slot/alone", alone(1, 1, 0), slot},
      {"queue/alone", alone(1, 1, 0), queue},
      {"queue/alone_ends", alone(1, 1, 0), queue_ends},
      {"barrier/alone", alone(1, 1, 0), [](Run& run) { barrier(run, 3); }},
      {"barrier/branches_alone", alone(0, 1, 0), [](Run& run) { barrier(run, 8); }},
      {"board/alone", alone(2, 1, 0), board},
      {"participants/alone", alone(2, 1, 1), recovery},
  };
}

}  // namespace heddle::model

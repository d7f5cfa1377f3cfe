// The task queue, with two slots: nothing is lost, nothing is done twice unless its worker died.
// (lease_word.hpp asks for 64 slots; tests/CMakeLists.txt builds the explorer with 2 as the least.)

#include "heddle/sync/task_queue.hpp"
#include "model/participants.hpp"
#include "model/scenarios.hpp"

namespace heddle::model {
namespace {

using Queue = TaskQueue<std::uint64_t>;

struct World {
  World(Run& run, std::size_t places, std::uint32_t capacity = 2, std::uint64_t first_cycle = 0)
      : participants(run, places), memory(run.memory("queue", Queue::bytes({capacity}))) {
    if (first_cycle == 0) {
      Queue::format(memory, {capacity});
    } else {
      LeaseRing::format(memory, {capacity, 8, 8}, first_cycle);
    }
    participants.repair_with([this](const Dead& dead) { Queue::repair(memory, dead); });
    holder.fill(no_one);
  }

  static constexpr std::size_t no_one = 99;
  Participants participants;
  std::span<std::byte> memory;
  std::array<bool, 16> begun{}, pushed{};
  std::array<int, 16> completed{}, excused{};
  std::array<std::size_t, 16> holder{};
  int producers = 0;
};

void push(World& world, Queue& queue, std::uint64_t value) {
  world.begun[value] = true;
  const Status status = queue.push(value);
  if (status == Status::closed) return;
  check(status == Status::ready, "a push for ever ends with a place");
  world.pushed[value] = true;
}

void begin_task(World& world, const Task<std::uint64_t>& task) {
  const std::uint64_t value = task.payload();
  check(value < 16 && world.begun[value], "QUEUE-1: a task that nobody pushed");
  std::size_t& holder = world.holder[value];
  check(holder == World::no_one || has_ended(holder), "QUEUE-3: two hold one task");
  if (holder != World::no_one) ++world.excused[value];  // its holder died
  holder = self();
}

void end_task(World& world, Task<std::uint64_t>& task) {
  const std::uint64_t value = task.payload();
  ++world.completed[value];
  check(task.complete() == Status::ready, "QUEUE-3: a lease of the living is not lost");
  world.holder[value] = World::no_one;
}

// Pops until the queue is closed and drained. `fail_first`: gives its first task back.
void consume(World& world, Queue& queue, bool fail_first = false) {
  for (;;) {
    auto task = queue.pop();
    if (!task) return check(task.status() == Status::closed, "a pop for ever ends with a task");
    begin_task(world, task);
    if (std::exchange(fail_first, false)) {
      world.holder[task.payload()] = World::no_one;
      check(task.fail() == Status::ready, "QUEUE-3: a lease of the living is not lost");
      continue;
    }
    end_task(world, task);
  }
}

void check_end(World& world) {
  for (std::size_t value = 0; value < 16; ++value) {
    if (world.pushed[value]) check(world.completed[value] >= 1, "a task is lost");
    check(world.completed[value] <= 1 + world.excused[value], "a task is done twice");
  }
}

Peers& joined(Run& run, World& world, std::size_t i) {
  return run.ghost<ModelPeers>(world.participants, i);
}

// The last living producer closes the queue.
void producer(Run& run, World& world, std::size_t i, bool mortal, int tasks) {
  static constexpr std::array names{"producer 0", "producer 1"};
  Peers& peers = joined(run, world, i);
  run.process(names[i], mortal, [&world, &peers, i, mortal, tasks] {
    Queue queue(world.memory, peers);
    queue.wait_strategy(WaitStrategy::sleep);
    for (int n = 1; n <= tasks; ++n) push(world, queue, i * 8 + static_cast<std::uint64_t>(n));
    if (!mortal) static_cast<void>(queue.close());
  });
}

void consumer(Run& run, World& world, std::size_t i, bool mortal, bool fail_first = false) {
  static constexpr std::array names{"", "consumer 1", "consumer 2", "consumer 3"};
  Peers& peers = joined(run, world, i);
  run.process(names[i], mortal, [&world, &peers, fail_first] {
    Queue queue(world.memory, peers);
    queue.wait_strategy(WaitStrategy::sleep);
    consume(world, queue, fail_first);
  });
}

// Three tasks through two slots: the producer waits for room. From a given cycle on.
template <std::uint64_t first_cycle>
void wrap(Run& run) {
  auto& world = run.ghost<World>(run, 2U, 2U, first_cycle);
  producer(run, world, 0, false, 3);
  consumer(run, world, 1, false);
  run.finally([&world] { check_end(world); });
}

// Two producers, two consumers. Nobody closes: each takes one.
void two_by_two(Run& run) {
  auto& world = run.ghost<World>(run, 4U);
  for (std::size_t i = 0; i < 2; ++i) {
    Peers& peers = joined(run, world, i);
    run.process(i == 0 ? "producer 0" : "producer 1", false, [&world, &peers, i] {
      Queue queue(world.memory, peers);
      queue.wait_strategy(WaitStrategy::sleep);
      push(world, queue, i + 1);
    });
  }
  for (std::size_t i = 2; i < 4; ++i) {
    Peers& peers = joined(run, world, i);
    run.process(i == 2 ? "consumer 2" : "consumer 3", false, [&world, &peers] {
      Queue queue(world.memory, peers);
      queue.wait_strategy(WaitStrategy::sleep);
      auto task = queue.pop();
      check(static_cast<bool>(task), "a pop for ever ends with a task");
      begin_task(world, task);
      end_task(world, task);
    });
  }
  run.finally([&world] { check_end(world); });
}

void dead_producer(Run& run) {
  auto& world = run.ghost<World>(run, 3U);
  producer(run, world, 0, true, 2);
  producer(run, world, 1, false, 1);
  consumer(run, world, 2, false);
  run.finally([&world] { check_end(world); });
}

void dead_consumer(Run& run) {
  auto& world = run.ghost<World>(run, 3U);
  producer(run, world, 0, false, 2);
  consumer(run, world, 1, true);
  consumer(run, world, 2, false);
  run.finally([&world] { check_end(world); });
}

// A task is given back while another consumer walks past it or drains.
void give_back(Run& run) {
  auto& world = run.ghost<World>(run, 3U);
  producer(run, world, 0, false, 2);
  consumer(run, world, 1, false, true);
  consumer(run, world, 2, false);
  run.finally([&world] { check_end(world); });
}

// A slow producer is gone past and comes back; two slots, tasks behind it.
void late_commit(Run& run) {
  auto& world = run.ghost<World>(run, 3U);
  for (std::size_t i = 0; i < 2; ++i) {
    Peers& peers = joined(run, world, i);
    run.process(i == 0 ? "slow" : "producer", false, [&world, &peers, i] {
      Queue queue(world.memory, peers);
      queue.wait_strategy(WaitStrategy::sleep);
      for (std::uint64_t n = 0; n <= i; ++n) push(world, queue, i * 8 + n + 1);
    });
  }
  Peers& peers = joined(run, world, 2);
  run.process("consumer", false, [&world, &peers] {
    Queue queue(world.memory, peers);
    queue.wait_strategy(WaitStrategy::sleep);
    for (int i = 0; i < 3; ++i) {
      auto task = queue.pop();
      check(static_cast<bool>(task), "a pop for ever ends with a task");
      begin_task(world, task);
      end_task(world, task);
    }
  });
  run.finally([&world] { check_end(world); });
}

// Close against a push and two drainers.
void close(Run& run) {
  auto& world = run.ghost<World>(run, 4U);
  Peers& peers = joined(run, world, 0);
  run.process("producer", false, [&world, &peers] {
    Queue queue(world.memory, peers);
    queue.wait_strategy(WaitStrategy::sleep);
    push(world, queue, 1);
    push(world, queue, 2);
  });
  consumer(run, world, 1, false);
  consumer(run, world, 2, false);
  Peers& other = joined(run, world, 3);
  run.process("closer", false, [&world, &other] {
    Queue queue(world.memory, other);
    static_cast<void>(queue.close());
  });
  run.finally([&world] { check_end(world); });
}

// Who does not wait: try_push and try_pop, with recovery by a slow third and a newcomer.
void newcomer(Run& run) {
  auto& world = run.ghost<World>(run, 2U);
  Peers& first = joined(run, world, 0);
  run.process("mortal", true, [&world, &first] {
    Queue queue(world.memory, first);
    world.begun[1] = true;
    if (queue.try_push(1) == Status::ready) world.pushed[1] = true;
    auto task = queue.try_pop();
    if (!task) return;
    begin_task(world, task);
    end_task(world, task);
  });
  auto& recoverer = run.ghost<ModelPeers>(world.participants, 1U);
  run.process("recoverer", true, [&recoverer] { recoverer.recover_dead(); });
  auto& late = run.ghost<ModelPeers>(world.participants);
  run.process("newcomer", false, [&world, &late] {
    if (!late.join()) return;
    Queue queue(world.memory, late);
    world.begun[9] = true;
    if (queue.try_push(9) == Status::ready) world.pushed[9] = true;
    for (int i = 0; i < 2; ++i) {
      auto task = queue.try_pop();
      if (!task) continue;
      begin_task(world, task);
      end_task(world, task);
    }
  });
}

}  // namespace

std::vector<Scenario> queue_scenarios() {
  const auto awake = [](int preemptions, int stale) {
    return Bounds{.preemptions = preemptions, .stale = stale, .inner_timeouts = false};
  };
  return {
      {"queue/wrap", awake(2, 1), wrap<0>},
      {"queue/wrap_cycles", awake(1, 1), wrap<LeaseWord::cycle_mask>},
      {"queue/two_by_two", awake(1, 1), two_by_two},
      {"queue/give_back", awake(1, 1), give_back},
      {"queue/late_commit", awake(2, 0), late_commit},
      {"queue/close", awake(1, 0), close},
      {"queue/dead_producer", {.preemptions = 1, .deaths = 1, .stale = 0}, dead_producer},
      {"queue/dead_consumer", {.preemptions = 1, .deaths = 1, .stale = 0}, dead_consumer},
      {"queue/newcomer", {.preemptions = 2, .deaths = 2, .stale = 1}, newcomer},
  };
}

}  // namespace heddle::model

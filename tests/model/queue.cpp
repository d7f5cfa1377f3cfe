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
      : participants(run, places),
        memory(run.memory("queue", Queue::bytes({capacity}))),
        results(run.shared<std::array<std::uint64_t, 16>>("results")) {
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
  std::array<std::uint64_t, 16>& results;  // plain: written by workers, read by who hears `closed`
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
  ++world.results[value];
  check(task.complete() == Status::ready, "QUEUE-3: a lease of the living is not lost");
  world.holder[value] = World::no_one;
}

// Pops until the queue is closed and drained. `fail_first`: gives its first task back.
void consume(World& world, Queue& queue, bool fail_first = false) {
  for (;;) {
    auto task = queue.pop();
    if (!task) {
      check(task.status() == Status::closed, "a pop for ever ends with a task");
      for (std::size_t value = 0; value < 16; ++value) {
        if (world.begun[value] && world.completed[value] != 0) {
          check(world.results[value] != 0, "QUEUE-5: `closed` comes after all results");
        }
      }
      return;
    }
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

// Is dead from the start, and nobody has recovered it.
Peers& dead(Run& run, World& world) {
  const std::size_t process = run.process("dead", false, [] {});
  drop_token(process);
  return joined(run, world, process);
}

// Recovers process 0 when it has ended, and nobody else does: waiters do not wake by themselves.
void recoverer(Run& run, World& world, std::size_t i) {
  auto& peers = run.ghost<ModelPeers>(world.participants, i);
  run.process("recoverer", false, [&peers] {
    while (!has_ended(0)) pause();
    peers.recover_dead();
  });
}

// The immortal one closes the queue when it has pushed its tasks.
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

// All at once: two producers and two consumers, one of each may die, and four tasks through two slots.
void two_by_two(Run& run) {
  auto& world = run.ghost<World>(run, 4U);
  producer(run, world, 0, true, 2);
  producer(run, world, 1, false, 2);
  consumer(run, world, 2, true);
  consumer(run, world, 3, false);
  run.finally([&world] { check_end(world); });
}

// Two sleepers, one sleeper bit, two pushes: the second push must not find the bit taken by the first
// while a consumer still sleeps.
void two_pushes_one_bit(Run& run) {
  auto& world = run.ghost<World>(run, 3U);
  Peers& peers = joined(run, world, 0);
  run.process("producer", false, [&world, &peers] {
    Queue queue(world.memory, peers);
    push(world, queue, 1);
    push(world, queue, 2);
  });
  for (std::size_t i = 1; i < 3; ++i) {
    Peers& its = joined(run, world, i);
    run.process(i == 1 ? "consumer 1" : "consumer 2", false, [&world, &its] {
      Queue queue(world.memory, its);
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
    world.begun[15] = true;  // what is done before close() is seen by who hears `closed`
    world.results[15] = 1;
    ++world.completed[15];
    ++world.excused[15];
    static_cast<void>(queue.close());
  });
  run.finally([&world] { check_end(world); });
}

// A push that has found the queue open; then one closes it, and another drains it before the push
// claims its slot: the push must take itself back, or the drainer have its task.
void push_and_drain(Run& run) {
  auto& world = run.ghost<World>(run, 3U);
  Peers& first = joined(run, world, 0);
  run.process("producer", false, [&world, &first] {
    Queue queue(world.memory, first);
    push(world, queue, 1);
  });
  consumer(run, world, 1, false);
  Peers& third = joined(run, world, 2);
  run.process("closer", false, [&world, &third] {
    Queue queue(world.memory, third);
    static_cast<void>(queue.close());
  });
  run.finally([&world] { check_end(world); });
}

// A queue that said `closed` as soon as it is closed and empty would say so while its last lease may
// come back. Here its worker completes the task, or dies and it does come back, while two drain.
void drain(Run& run) {
  auto& world = run.ghost<World>(run, 3U);
  Peers& first = joined(run, world, 0);
  auto& queue = run.ghost<Queue>(world.memory, first);
  push(world, queue, 1);
  auto& task = run.ghost<Task<std::uint64_t>>(queue.pop());
  run.process("worker", true, [&world, &task] {
    begin_task(world, task);
    end_task(world, task);
  });
  Peers& second = joined(run, world, 1);
  run.process("drainer", false, [&world, &second] {
    Queue its(world.memory, second);
    its.wait_strategy(WaitStrategy::sleep);
    static_cast<void>(its.close());
    consume(world, its);
  });
  consumer(run, world, 2, false);
  run.finally([&world] { check_end(world); });
}

// Who closes and drains dies in the middle of it. What it has left undone another does.
void dead_closer(Run& run) {
  auto& world = run.ghost<World>(run, 3U);
  Peers& first = joined(run, world, 0);
  auto& queue = run.ghost<Queue>(world.memory, first);
  queue.wait_strategy(WaitStrategy::sleep);
  push(world, queue, 1);
  run.process("closer", true, [&world, &queue] {
    static_cast<void>(queue.close());
    consume(world, queue);
  });
  auto& second = run.ghost<ModelPeers>(world.participants, 1U);
  run.process("recoverer", false, [&world, &second] {
    while (!has_ended(0)) pause();
    second.recover_dead();
    Queue its(world.memory, second);
    static_cast<void>(its.close());
  });
  consumer(run, world, 2, false);
  run.finally([&world] { check_end(world); });
}

// Four slots: a producer that stands still in the first one, a free one behind it, tasks behind
// that. Who waits for room gets the free one as soon as a consumer goes past the first.
void go_past(Run& run) {
  auto& world = run.ghost<World>(run, 4U, 4U);
  const LeaseRingShape shape = *LeaseRingShape::of(world.memory);
  Peers& still = joined(run, world, 0);
  auto& ring = run.ghost<LeaseRing>(world.memory, shape, still);
  auto& first = run.ghost<LeaseRing::Reservation>();
  LeaseRing::Reservation second;
  check(ring.try_reserve(first) == Status::ready && ring.try_reserve(second) == Status::ready, "");
  Queue filler(world.memory, still);
  push(world, filler, 3);
  push(world, filler, 4);
  static_cast<void>(second.cancel());
  auto& pushed = run.ghost<bool>(false);
  Peers& other = joined(run, world, 1);
  run.process("producer", false, [&world, &other, &pushed] {
    Queue queue(world.memory, other);
    queue.wait_strategy(WaitStrategy::sleep);
    push(world, queue, 5);
    pushed = true;
  });
  Peers& third = joined(run, world, 2);
  run.process("consumer", false, [&world, &third, &pushed] {
    Queue queue(world.memory, third);
    auto task = queue.try_pop();
    if (!task) return;
    begin_task(world, task);
    while (!pushed) pause();
    end_task(world, task);
  });
}

// A producer of a large payload stands still for ever, or is dead: three tasks go around its slot, by
// way of the other one, and around its recovery; then its slot is there again.
void abandoned_for_ever(Run& run) {
  auto& world = run.ghost<World>(run, 4U);
  Peers& still = joined(run, world, 0);
  LeaseRing ring(world.memory, *LeaseRingShape::of(world.memory), still);
  LeaseRing::Reservation first;
  check(ring.try_reserve(first) == Status::ready, "there are two slots");
  run.process("still", true, [] {});
  Peers& second = joined(run, world, 1);
  run.process("producer", false, [&world, &second] {
    Queue queue(world.memory, second);
    queue.wait_strategy(WaitStrategy::sleep);
    for (std::uint64_t n = 1; n <= 3; ++n) push(world, queue, n);
  });
  Peers& third = joined(run, world, 2);
  run.process("consumer", false, [&world, &third] {
    Queue queue(world.memory, third);
    queue.wait_strategy(WaitStrategy::sleep);
    for (int n = 0; n < 3; ++n) {
      auto task = queue.pop();
      check(static_cast<bool>(task), "a pop for ever ends with a task");
      begin_task(world, task);
      end_task(world, task);
    }
  });
  recoverer(run, world, 3);
  run.finally([&world, &third] {
    check_end(world);
    drop_token(0);
    world.participants.recover_dead(nobody);
    Queue queue(world.memory, third);
    check(queue.try_push(1) == Status::ready && queue.try_push(2) == Status::ready,
          "the slot of the dead comes back");
  });
}

// A consumer looks through the ring for a returned task, and finds in front of it one that is committed
// late just now, of which `returned` does not speak yet.
void late_beside_returned(Run& run) {
  auto& world = run.ghost<World>(run, 3U, 4U);
  Peers& slow = joined(run, world, 0);
  LeaseRing ring(world.memory, *LeaseRingShape::of(world.memory), slow);
  auto& first = run.ghost<LeaseRing::Reservation>();
  check(ring.try_reserve(first) == Status::ready, "there are four slots");
  Queue filler(world.memory, slow);
  push(world, filler, 2);
  Queue returner(world.memory, joined(run, world, 1));
  auto task = returner.try_pop();
  check(static_cast<bool>(task) && task.fail() == Status::ready, "a task is there, and given back");
  world.begun[1] = true;
  run.process("slow", false, [&world, &first] {
    *reinterpret_cast<std::uint64_t*>(first.payload()) = 1;
    check(first.commit() == Status::ready, "QUEUE-1: a slow producer's slot stays its own");
    world.pushed[1] = true;
  });
  Peers& third = joined(run, world, 2);
  run.process("consumer", false, [&world, &third] {
    Queue queue(world.memory, third);
    queue.wait_strategy(WaitStrategy::sleep);
    for (int n = 0; n < 2; ++n) {
      auto got = queue.pop();
      check(static_cast<bool>(got), "a pop for ever ends with a task");
      begin_task(world, got);
      end_task(world, got);
    }
  });
  run.finally([&world] { check_end(world); });
}

// Every slot is leased. One worker completes its task and goes: the producer must hear of it.
void room(Run& run) {
  auto& world = run.ghost<World>(run, 2U);
  Peers& peers = joined(run, world, 0);
  auto& queue = run.ghost<Queue>(world.memory, peers);
  push(world, queue, 1);
  push(world, queue, 2);
  auto& first = run.ghost<Task<std::uint64_t>>(queue.pop());
  static_cast<void>(run.ghost<Task<std::uint64_t>>(queue.pop()).status());
  run.process("worker", false, [&world, &first] {
    begin_task(world, first);
    end_task(world, first);
  });
  Peers& other = joined(run, world, 1);
  run.process("producer", false, [&world, &other] {
    Queue its(world.memory, other);
    its.wait_strategy(WaitStrategy::sleep);
    push(world, its, 3);
  });
}

// A worker takes the first task and holds it until the producer has got the slot that came free
// behind it (`meanwhile`: comes free just now).
void room_behind(Run& run, bool meanwhile) {
  auto& world = run.ghost<World>(run, 4U);
  Peers& peers = joined(run, world, 0);
  auto& queue = run.ghost<Queue>(world.memory, peers);
  auto& ring = run.ghost<LeaseRing>(world.memory, *LeaseRingShape::of(world.memory), peers);
  auto& second = run.ghost<LeaseRing::Reservation>();
  push(world, queue, 1);
  check(ring.try_reserve(second) == Status::ready, "there are two slots");
  if (!meanwhile) static_cast<void>(second.cancel());
  auto& pushed = run.ghost<bool>(false);
  run.process("worker", false, [&world, &queue, &pushed] {
    auto task = queue.try_pop();
    if (!task) return;
    begin_task(world, task);
    while (!pushed) pause();
    end_task(world, task);
  });
  Peers& other = joined(run, world, 1);
  run.process("producer", false, [&world, &other, &pushed] {
    Queue its(world.memory, other);
    its.wait_strategy(WaitStrategy::sleep);
    push(world, its, 3);
    pushed = true;
  });
  if (meanwhile) {
    run.process("canceller", false, [&second] { static_cast<void>(second.cancel()); });
  }
}

// A task waits in the first slot; the second is leased, and its worker completes that, finds nobody
// asleep and goes. Then a producer falls asleep, since the task is in its way. Who takes the task must
// see that the slot behind it is free, and wake the producer.
void room_completed(Run& run) {
  auto& world = run.ghost<World>(run, 3U);
  Peers& peers = joined(run, world, 0);
  auto& queue = run.ghost<Queue>(world.memory, peers);
  push(world, queue, 1);
  push(world, queue, 2);
  auto first = queue.pop();
  auto& second = run.ghost<Task<std::uint64_t>>(queue.pop());
  begin_task(world, first);
  end_task(world, first);
  begin_task(world, second);
  push(world, queue, 3);
  check(queue.try_push(4) == Status::full, "there are two slots");  // and has gone past the lease
  auto& pushed = run.ghost<bool>(false);
  run.process("worker", false, [&world, &second] {
    world.holder[second.payload()] = self();
    end_task(world, second);
  });
  Peers& third = joined(run, world, 1);
  run.process("consumer", false, [&world, &third, &pushed] {
    Queue its(world.memory, third);
    auto task = its.try_pop();
    if (!task) return;
    begin_task(world, task);
    while (!pushed) pause();
    end_task(world, task);
  });
  Peers& other = joined(run, world, 2);
  run.process("producer", false, [&world, &other, &pushed] {
    Queue its(world.memory, other);
    its.wait_strategy(WaitStrategy::sleep);
    push(world, its, 4);
    pushed = true;
  });
}

// A task is returned behind a consumer that has walked past it: nobody comes by there again.
void returned(Run& run, bool mortal, bool recovers) {
  auto& world = run.ghost<World>(run, 3U);
  Peers& peers = joined(run, world, 0);
  auto& queue = run.ghost<Queue>(world.memory, peers);
  push(world, queue, 1);
  auto& task = run.ghost<Task<std::uint64_t>>(queue.pop());
  run.process("worker", mortal, [&task] { static_cast<void>(task.fail()); });
  Peers& other = joined(run, world, 1);
  run.process("consumer", false, [&world, &other] {
    Queue its(world.memory, other);
    its.wait_strategy(WaitStrategy::sleep);
    auto got = its.pop();
    check(static_cast<bool>(got), "a pop for ever ends with a task");
    begin_task(world, got);
    end_task(world, got);
  });
  if (recovers) recoverer(run, world, 2);
  run.finally([&world] { check_end(world); });
}

// A producer gives its slot back, or dies over it; another sleeps until there is room.
void room_by_repair(Run& run) {
  auto& world = run.ghost<World>(run, 3U);
  Peers& peers = joined(run, world, 0);
  LeaseRing ring(world.memory, *LeaseRingShape::of(world.memory), peers);
  auto& first = run.ghost<LeaseRing::Reservation>();
  check(ring.try_reserve(first) == Status::ready, "there are two slots");
  Queue queue(world.memory, peers);
  push(world, queue, 1);
  run.process("canceller", true, [&first] { static_cast<void>(first.cancel()); });
  Peers& other = joined(run, world, 1);
  run.process("producer", false, [&world, &other] {
    Queue its(world.memory, other);
    its.wait_strategy(WaitStrategy::sleep);
    push(world, its, 2);
  });
  recoverer(run, world, 2);
}

// A worker completes its task, and may die over it, while two recover it and look for the task.
void complete_and_recovery(Run& run) {
  auto& world = run.ghost<World>(run, 3U);
  Peers& peers = joined(run, world, 0);
  auto& queue = run.ghost<Queue>(world.memory, peers);
  push(world, queue, 1);
  auto& task = run.ghost<Task<std::uint64_t>>(queue.pop());
  run.process("worker", true, [&world, &task] {
    begin_task(world, task);
    end_task(world, task);
  });
  for (std::size_t i = 1; i < 3; ++i) {
    auto& its_peers = run.ghost<ModelPeers>(world.participants, i);
    run.process(i == 1 ? "survivor 1" : "survivor 2", false, [&world, &its_peers] {
      its_peers.recover_dead();
      Queue its(world.memory, its_peers);
      auto got = its.try_pop();
      if (!got) return;
      begin_task(world, got);
      end_task(world, got);
    });
  }
  run.finally([&world, &queue] {
    world.participants.recover_dead(nobody);
    if (queue.count().waiting == 0) check_end(world);
    check(queue.count().filling == 0 && queue.count().leased == 0, "all slots come back");
  });
}

// One who recovers the dead is slow. Another has done so meanwhile, has taken their place and claims
// words, of which the slow one may find any: they must stay the newcomer's.
void slow_recoverer(Run& run) {
  auto& world = run.ghost<World>(run, 2U);
  Peers& first = dead(run, world);
  auto& queue = run.ghost<Queue>(world.memory, first);
  push(world, queue, 1);
  LeaseRing ring(world.memory, *LeaseRingShape::of(world.memory), first);
  LeaseRing::Lease lease;
  check(ring.try_lease(lease) == Status::ready, "the task is there");
  auto& slow = run.ghost<ModelPeers>(world.participants, 1U);
  run.process("slow", false, [&slow] { slow.recover_dead(); });
  auto& late = run.ghost<ModelPeers>(world.participants);
  run.process("newcomer", false, [&world, &late] {
    if (!late.join()) return;
    Queue its(world.memory, late);
    auto task = its.try_pop();
    check(static_cast<bool>(task), "the task of the dead is there");
    begin_task(world, task);
    end_task(world, task);
    push(world, its, 2);
  });
  run.finally([&world] { check(world.completed[1] == 1 && world.pushed[2], ""); });
}

// Two threads of one process. One ends its lease twice; the other has a later task in the same slot by
// then, with the same owner in its word, and the same grant: that lease must stay its own.
void two_threads(Run& run) {
  auto& world = run.ghost<World>(run, 1U);
  Peers& peers = joined(run, world, 0);
  auto& ring = run.ghost<LeaseRing>(world.memory, *LeaseRingShape::of(world.memory), peers);
  LeaseRing::Reservation filled;
  auto& lease = run.ghost<LeaseRing::Lease>();
  check(ring.try_reserve(filled) == Status::ready && filled.commit() == Status::ready &&
            ring.try_lease(lease) == Status::ready,
        "there are two slots");
  auto& leased = run.ghost<bool>(false);
  auto& ended = run.ghost<bool>(false);
  run.process("thread 1", false, [&lease, &leased, &ended] {
    check(lease.complete() == Status::ready, "QUEUE-3: a lease of the living is not lost");
    while (!leased) pause();
    check(lease.complete() == Status::lost_lease, "QUEUE-3: a lease ends once");
    ended = true;
  });
  run.process("thread 2", false, [&world, &peers, &leased, &ended] {
    LeaseRing its(world.memory, *LeaseRingShape::of(world.memory), peers);
    LeaseRing::Reservation slot;
    std::array<LeaseRing::Lease, 2> leases;
    for (LeaseRing::Lease& one : leases) {
      while (its.try_reserve(slot) != Status::ready) pause();
      check(slot.commit() == Status::ready && its.try_lease(one) == Status::ready,
            "what was pushed is there");
    }
    leased = true;
    while (!ended) pause();
    for (const LeaseRing::Lease& one : leases) {
      check(one.complete() == Status::ready, "QUEUE-3: a lease of the living is not lost");
    }
  });
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
    const Status pushed = queue.try_push(9);
    check(pushed != Status::lost_lease, "a slow recoverer has taken a newcomer's slot");
    if (pushed == Status::ready) world.pushed[9] = true;
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
  const auto awake = [](int preemptions, int stale, int deaths = 0) {
    return Bounds{
        .preemptions = preemptions, .deaths = deaths, .stale = stale, .inner_timeouts = false};
  };
  return {
      {"queue/wrap", awake(2, 1), wrap<0>},
      {"queue/wrap_cycles", awake(1, 1), wrap<LeaseWord::cycle_mask>},
      {"queue/two_by_two", {.preemptions = 0, .deaths = 2, .stale = 0}, two_by_two},
      {"queue/two_pushes_one_bit", awake(1, 2), two_pushes_one_bit},
      {"queue/give_back", awake(1, 1), give_back},
      {"queue/late_commit", awake(2, 0), late_commit},
      {"queue/late_beside_returned", awake(2, 1), late_beside_returned},
      {"queue/abandoned_for_ever", {.preemptions = 1, .deaths = 1, .stale = 0}, abandoned_for_ever},
      {"queue/close", awake(1, 0), close},
      {"queue/push_and_drain", awake(1, 1), push_and_drain},
      {"queue/drain", {.preemptions = 1, .deaths = 1, .stale = 1}, drain},
      {"queue/drain_awake", awake(2, 2), drain},
      {"queue/dead_closer", awake(1, 0, 1), dead_closer},
      {"queue/room", awake(2, 2), room},
      {"queue/room_behind", awake(2, 2), [](Run& run) { room_behind(run, false); }},
      {"queue/room_meanwhile", awake(2, 2), [](Run& run) { room_behind(run, true); }},
      {"queue/room_completed", awake(1, 1), room_completed},
      {"queue/room_by_repair", awake(2, 1, 1), room_by_repair},
      {"queue/returned", awake(2, 2), [](Run& run) { returned(run, false, false); }},
      {"queue/returned_by_the_dead",
       {.preemptions = 2, .deaths = 1, .stale = 2},
       [](Run& run) { returned(run, true, false); }},
      {"queue/returned_by_repair", awake(2, 1, 1), [](Run& run) { returned(run, true, true); }},
      {"queue/go_past", awake(2, 2), go_past},
      {"queue/dead_producer", {.preemptions = 1, .deaths = 1, .stale = 0}, dead_producer},
      {"queue/dead_consumer", {.preemptions = 1, .deaths = 1, .stale = 0}, dead_consumer},
      {"queue/complete_and_recovery",
       {.preemptions = 2, .deaths = 1, .stale = 1},
       complete_and_recovery},
      {"queue/slow_recoverer", {.preemptions = 2, .stale = 1}, slow_recoverer},
      {"queue/newcomer", {.preemptions = 2, .deaths = 2, .stale = 1}, newcomer},
      {"queue/two_threads", {.preemptions = 1, .stale = 1}, two_threads},
  };
}

}  // namespace heddle::model

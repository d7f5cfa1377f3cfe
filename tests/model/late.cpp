// Tasks and time: those that are not due yet, and workers that are late.

#include "model/task_world.hpp"

namespace heddle::model {
namespace {

using Queue = TaskWorld::Queue;
using Task = TaskWorld::Task;
using std::chrono::milliseconds;

// ---- a worker is late, and alive

constexpr milliseconds timeout{50};
constexpr milliseconds too_long{52};
const Queue::Options timed{.capacity = 2, .lease_timeout = timeout};

enum class Ends { completes, fails, extends };

// A worker ends its task just when it is too late. Either it has ended it, or another has the task; and
// if it lost it, it changed nothing: the delay that it asked for is not the task's. QUEUE-3
void expire(Run& run, Ends how) {
  auto& world = run.ghost<TaskWorld>(run, 2U, timed);
  Queue& queue = world.queue(run, world.joined(run, 0));
  check(static_cast<bool>(queue.push(1)), "there are two slots");
  auto& task = run.ghost<Task>(queue.pop());
  auto& ended = run.ghost<bool>(false);
  auto& had = run.ghost<bool>(false);
  run.process("slow", false, [&task, &ended, how] {
    if (how == Ends::extends) static_cast<void>(task.extend());
    const Status got = how == Ends::fails ? task.fail("late", milliseconds(1000)) : task.complete();
    check(got == Status::ready || got == Status::lost_lease, "it ends the task, or has lost it");
    ended = got == Status::ready;
  });
  Queue& other = world.queue(run, world.joined(run, 1));
  run.process("other", false, [&other, &had] {
    pass(too_long);
    auto got = other.pop(Deadline::now());
    if (!got) return;
    had = true;
    check(got.tries() == 2 && got.complete() == Status::ready, "the second worker is in time");
  });
  run.finally([&queue, &ended, &had, how] {
    check(ended != had, "QUEUE-3: one of them ends the task");
    const LeaseCounts left = queue.count();
    check(left.leased == 0 && left.waiting == (ended && how == Ends::fails ? 1 : 0), "once");
  });
}

// A worker is so slow that it loses the task before it has signed for it; it signs when another has the
// task, or (`next`) the next task of that slot. That one is in time, and keeps it.
void late_stamp(Run& run, bool next) {
  auto& world = run.ghost<TaskWorld>(run, 2U, timed);
  Peers& first = world.joined(run, 0);
  Queue& queue = world.queue(run, first);
  if (next) {  // the slot after the first one's: then the first again
    LeaseRing ring(world.memory, queue.shape().ring, first);
    LeaseRing::Reservation filled, cancelled;
    check(ring.try_reserve(filled) == Status::ready, "there are two slots");
    check(ring.try_reserve(cancelled) == Status::ready && cancelled.cancel() == Status::ready, "");
    filled.date(0, 0);
    *reinterpret_cast<std::uint64_t*>(filled.payload()) = 1;
    check(filled.commit() == Status::ready, "");
  } else {
    check(static_cast<bool>(queue.push(1)), "there are two slots");
  }
  run.process("slow", false, [&queue] {
    auto task = queue.try_pop();
    if (!task) return;
    const Status got = task.complete();
    check(got == Status::ready || got == Status::lost_lease, "it ends the task, or has lost it");
  });
  Peers& second = world.joined(run, 1);
  Queue& other = world.queue(run, second);
  auto& looker = run.ghost<LeaseRing>(world.memory, queue.shape().ring, second);
  run.process("other", false, [&other, &looker, next] {
    Task task;
    for (int n = 0; n < 2 && !task; ++n) {
      pass(too_long);  // at the first look a lease that is not signed begins
      task = other.pop(Deadline::now());
    }
    if (!task) return;
    if (next) {
      if (task.complete() != Status::ready || !other.try_push(2)) return;
      task = other.try_pop();
      if (!task) return;
    }
    static_cast<void>(looker.recover_when_idle());
    check(task.complete() == Status::ready, "a worker in time keeps its task");
  });
}

// Who looks for late workers is slow itself: it looked at the clock long ago. A task that was leased since
// then, and whose worker has not signed yet, is not late.
void slow_looker(Run& run) {
  auto& world = run.ghost<TaskWorld>(run, 2U, timed);
  Queue& queue = world.queue(run, world.joined(run, 0));
  check(static_cast<bool>(queue.push(1)), "there are two slots");
  run.process("worker", false, [&queue] {
    pass(too_long);
    auto task = queue.try_pop();
    check(task && task.complete() == Status::ready, "a worker in time keeps its task");
  });
  Peers& second = world.joined(run, 1);
  auto& one = run.ghost<LeaseRing>(world.memory, queue.shape().ring, second);
  auto& again = run.ghost<LeaseRing>(world.memory, queue.shape().ring, second);
  run.process("looker", false, [&one, &again] {
    static_cast<void>(one.recover_when_idle());
    static_cast<void>(again.recover_when_idle());
  });
}

// A task whose worker is late for the last time is a dead letter, or was ended just now.
void last_expiry(Run& run) {
  Queue::Options options = timed;
  options.max_tries = 1;
  auto& world = run.ghost<TaskWorld>(run, 2U, options);
  Queue& queue = world.queue(run, world.joined(run, 0));
  check(static_cast<bool>(queue.push(1)), "there are two slots");
  auto& task = run.ghost<Task>(queue.pop());
  auto& ended = run.ghost<bool>(false);
  run.process("slow", false, [&task, &ended] { ended = task.complete() == Status::ready; });
  Queue& other = world.queue(run, world.joined(run, 1));
  run.process("drainer", false, [&other] {
    static_cast<void>(other.close());
    pass(too_long);
    check(other.pop().status() == Status::closed, "there was one try");
  });
  run.finally(
      [&queue, &ended] { check(queue.count().dead == (ended ? 0 : 1), "done, or a dead letter"); });
}

// ---- a task is not due yet

constexpr milliseconds delay{20};

struct Due {
  void push(Queue& queue, std::uint64_t value, bool later) {
    if (later) at[value] = monotonic_ns() + std::chrono::nanoseconds(delay).count();
    const PushOptions how{.lane = 0, .delay = later ? delay : milliseconds(0)};
    check(static_cast<bool>(queue.push(value, Deadline::never(), how)), "it is pushed");
  }
  void complete(Task& task) {
    check(monotonic_ns() >= at[task.payload()], "a task is never early");
    ++done[task.payload()];
    check(task.complete() == Status::ready, "a lease of the living is not lost");
  }
  std::array<std::int64_t, 4> at{};
  std::array<int, 4> done{};
};

const Queue::Options delayed{.capacity = 2, .delays = true};

// A task that is not due, and one behind it that is: both are had, by one or by the other, and not early.
void not_due(Run& run, std::size_t consumers) {
  auto& world = run.ghost<TaskWorld>(run, 3U, delayed);
  auto& due = run.ghost<Due>();
  Peers& first = world.joined(run, 0);
  run.process("producer", false, [&world, &due, &first] {
    Queue its(world.memory, first);
    its.wait_strategy(WaitStrategy::sleep);
    due.push(its, 1, true);
    due.push(its, 2, false);
    static_cast<void>(its.close());
  });
  for (std::size_t i = 1; i <= consumers; ++i) {
    Peers& peers = world.joined(run, i);
    run.process(i == 1 ? "consumer 1" : "consumer 2", false, [&world, &due, &peers] {
      Queue its(world.memory, peers);
      its.wait_strategy(WaitStrategy::sleep);
      while (auto task = its.pop()) due.complete(task);
      check(due.done[1] == 1 && due.done[2] == 1, "QUEUE-5: `closed` comes after all tasks");
    });
  }
}

// A task fails, to be tried again later.
void failed_for_later(Run& run, bool mortal) {
  auto& world = run.ghost<TaskWorld>(run, 3U, delayed);
  auto& due = run.ghost<Due>();
  Queue& queue = world.queue(run, world.joined(run, 0));
  due.push(queue, 1, false);
  auto& task = run.ghost<Task>(queue.pop());
  run.process("worker", mortal, [&due, &task] {
    due.at[1] = monotonic_ns() + std::chrono::nanoseconds(delay).count();
    check(task.fail("later", delay) == Status::ready, "a lease of the living is not lost");
  });
  for (std::size_t i = 1; i < (mortal ? 2 : 3); ++i) {
    Peers& peers = world.joined(run, i);
    run.process(i == 1 ? "consumer 1" : "consumer 2", false, [&world, &due, &peers, mortal, i] {
      Queue its(world.memory, peers);
      its.wait_strategy(WaitStrategy::sleep);
      auto got = i == 1 ? its.pop() : its.try_pop();
      if (!got) return;
      check(mortal || monotonic_ns() >= due.at[1], "a task is never early");
      check(got.complete() == Status::ready, "a lease of the living is not lost");
      ++due.done[1];
      if (i != 1) static_cast<void>(its.close());
    });
  }
}

// A task that is not due stands in front of a free slot, and a producer sleeps until there is room. Who
// puts the task aside wakes it. QUEUE-6
void park_room(Run& run) {
  auto& world = run.ghost<TaskWorld>(run, 3U, delayed);
  Peers& first = world.joined(run, 0);
  Queue& queue = world.queue(run, first);
  auto& due = run.ghost<Due>();
  due.push(queue, 1, true);
  LeaseRing ring(world.memory, queue.shape().ring, first);
  LeaseRing::Reservation second;
  check(ring.try_reserve(second) == Status::ready && second.cancel() == Status::ready, "");
  auto& pushed = run.ghost<bool>(false);
  Queue& producer = world.queue(run, world.joined(run, 1));
  run.process("producer", false, [&due, &producer, &pushed] {
    due.push(producer, 2, false);
    pushed = true;
  });
  Queue& consumer = world.queue(run, world.joined(run, 2));
  run.process("consumer", false, [&due, &consumer, &pushed] {
    auto task = consumer.try_pop();
    check(!task || task.payload() == 2, "a task is never early");
    while (!pushed) pause();
    if (task) due.complete(task);
  });
}

// One finds that a task is not due and puts it aside; meanwhile it is due, and another takes it.
void park_and_take(Run& run) {
  auto& world = run.ghost<TaskWorld>(run, 3U, delayed);
  Queue& queue = world.queue(run, world.joined(run, 0));
  auto& due = run.ghost<Due>();
  due.push(queue, 1, true);
  for (std::size_t i = 1; i < 3; ++i) {
    Queue& its = world.queue(run, world.joined(run, i));
    run.process(i == 1 ? "early" : "late", false, [&due, &its, i] {
      if (i == 2) pass(delay);
      auto task = i == 1 ? its.try_pop() : its.pop(Deadline::now());
      if (task) due.complete(task);
    });
  }
  run.finally([&queue, &due] {
    const LeaseCounts left = queue.count();
    check(due.done[1] + static_cast<int>(left.waiting) == 1 && left.leased == 0, "once");
    check(due.done[1] == 1, "it is found when it is due");
  });
}

}  // namespace

std::vector<Scenario> late_scenarios() {
  return {
      {"queue/expire_complete",
       {.preemptions = 3, .stale = 2},
       [](Run& run) { expire(run, Ends::completes); }},
      {"queue/expire_fail",
       {.preemptions = 3, .stale = 2},
       [](Run& run) { expire(run, Ends::fails); }},
      {"queue/expire_extend",
       {.preemptions = 3, .stale = 2},
       [](Run& run) { expire(run, Ends::extends); }},
      {"queue/expire_late_stamp",
       {.preemptions = 3, .stale = 1},
       [](Run& run) { late_stamp(run, false); }},
      {"queue/expire_late_stamp_next",
       {.preemptions = 3, .stale = 1},
       [](Run& run) { late_stamp(run, true); }},
      {"queue/expire_slow_looker", {.preemptions = 3, .stale = 1}, slow_looker},
      {"queue/expire_last", {.preemptions = 2, .stale = 1}, last_expiry},
      {"queue/delay", {.preemptions = 2, .stale = 1}, [](Run& run) { not_due(run, 1); }},
      {"queue/delay_two", {.preemptions = 0, .stale = 1}, [](Run& run) { not_due(run, 2); }},
      {"queue/delay_failed",
       {.preemptions = 2, .stale = 2},
       [](Run& run) { failed_for_later(run, false); }},
      {"queue/delay_failed_dead",
       {.preemptions = 1, .deaths = 1, .stale = 1},
       [](Run& run) { failed_for_later(run, true); }},
      {"queue/park_room", {.preemptions = 1, .stale = 2, .inner_timeouts = false}, park_room},
      {"queue/park_take", {.preemptions = 2, .stale = 1}, park_and_take},
  };
}

}  // namespace heddle::model

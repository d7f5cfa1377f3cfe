// Queues of several lanes, and queues that are opened again.

#include "model/task_world.hpp"

namespace heddle::model {
namespace {

using Queue = TaskWorld::Queue;
using Task = TaskWorld::Task;

// ---- opened again

// A queue is closed, and one is about to find it drained while another opens it and pushes: it is open,
// and the task is there. QUEUE-5
void reopen(Run& run) {
  auto& world = run.ghost<TaskWorld>(run, 2U, Queue::Options{.capacity = 2});
  Queue& queue = world.queue(run, world.joined(run, 0));
  check(queue.close() == Status::ready, "");
  run.process("opener", false, [&queue] {
    check(queue.reopen() == Status::ready, "");
    check(static_cast<bool>(queue.try_push(1)), "QUEUE-5: it was opened, and nobody has closed it");
  });
  Queue& other = world.queue(run, world.joined(run, 1));
  run.process("drainer", false, [&world, &other] {
    for (int n = 0; n < 2; ++n) {
      auto task = other.try_pop();
      if (!task) continue;
      world.begin(task);
      world.complete(task);
    }
  });
  run.finally([&world, &queue] {
    check(!queue.is_closed(), "QUEUE-5: it was opened, and nobody has closed it");
    check(queue.count().waiting + static_cast<std::uint64_t>(world.completed[1]) == 1,
          "it is there");
  });
}

// Opened, and closed again with a task in it, under the eyes of a drainer of before: who drains after that
// hears `closed` when the task is done. `letter`: the task was a dead letter. Who opens it may die.
void close_again(Run& run, bool letter, bool mortal) {
  auto& world =
      run.ghost<TaskWorld>(run, 3U, Queue::Options{.capacity = 2, .max_tries = letter ? 2U : 0U});
  Queue& queue = world.queue(run, world.joined(run, 0));
  auto& id = run.ghost<TaskId>(0U);
  if (letter) {
    id = queue.push(1).id;
    for (int n = 0; n < 2; ++n) check(queue.pop().fail() == Status::ready, "");
  }
  check(queue.close() == Status::ready, "");
  auto& pushed = run.ghost<bool>(false);
  run.process("opener", mortal, [&world, &queue, &id, &pushed, letter] {
    check(queue.reopen() == Status::ready, "");
    check((letter ? queue.retry(id) : Status(queue.push(1))) == Status::ready,
          "QUEUE-5: it was opened, and nobody has closed it");
    pushed = true;
    check(queue.close() == Status::ready, "");
    while (auto task = queue.pop()) {
      world.begin(task);
      world.complete(task);
    }
    check(world.completed[1] == 1, "QUEUE-5: `closed` comes after all tasks");
  });
  Queue& other = world.queue(run, world.joined(run, 1));
  run.process("drainer", false, [&world, &other] {
    for (int n = 0; n < 2; ++n) {
      auto task = other.try_pop();
      if (task.status() == Status::closed) return;  // the first time, or the second
      if (!task) continue;
      world.begin(task);
      world.complete(task);
    }
  });
  Peers& third = world.joined(run, 2);
  run.finally([&world, &third, &pushed, letter] {
    world.participants.recover_dead(nobody);
    Queue its(world.memory, third);
    check(its.close() == Status::ready, "");
    while (auto task = its.try_pop()) {
      world.begin(task);
      world.complete(task);
    }
    const LeaseCounts left = its.count();
    check(left.leased + left.waiting + left.filling == 0,
          "QUEUE-5: `closed` comes after all tasks");
    check(world.completed[1] <= (has_died(0) ? 2 : 1), "a task is done twice");
    if (pushed) check(world.completed[1] >= 1, "a task is lost");
    if (letter) check(world.completed[1] != 0 || left.dead == 1, "a letter is lost");
  });
}

// ---- lanes

const Queue::Options two_lanes{.capacity = 2, .lanes = 2};
constexpr PushOptions in_lane_1{.lane = 1, .delay = {}};

// Consumers of all lanes sleep at one place; a push to any lane wakes one.
void wake(Run& run) {
  auto& world = run.ghost<TaskWorld>(run, 3U, two_lanes);
  Queue& producer = world.queue(run, world.joined(run, 0));
  run.process("producer", false, [&producer] {
    check(static_cast<bool>(producer.push(1, Deadline::never(), in_lane_1)), "there is room");
    check(static_cast<bool>(producer.push(2)), "there is room");
  });
  for (std::size_t i = 1; i < 3; ++i) {
    Queue& its = world.queue(run, world.joined(run, i));
    run.process(i == 1 ? "consumer 1" : "consumer 2", false, [&world, &its] {
      auto task = its.pop();
      world.begin(task);
      world.complete(task);
    });
  }
  run.finally([&world] { check(world.completed[1] == 1 && world.completed[2] == 1, "once"); });
}

// A worker with a task of lane 1 completes it, or fails and may die over it. Who sleeps for lane 0 too
// hears of the task, or of the end of all.
void worker_of_lane_1(Run& run, bool mortal) {
  auto& world = run.ghost<TaskWorld>(run, 3U, two_lanes);
  Queue& queue = world.queue(run, world.joined(run, 0));
  check(static_cast<bool>(queue.push(1, Deadline::never(), in_lane_1)), "there is room");
  auto& task = run.ghost<Task>(queue.pop());
  check(queue.close() == Status::ready, "");
  auto& ended = run.ghost<bool>(false);
  run.process("worker", mortal, [&task, &ended, mortal] {
    ended = !mortal;
    check((mortal ? task.fail() : task.complete()) == Status::ready, "a lease is not lost");
  });
  Queue& other = world.queue(run, world.joined(run, 1));
  run.process("consumer", false, [&other, &ended, mortal] {
    auto got = other.pop();
    if (mortal) {
      check(got && got.complete() == Status::ready, "the task comes back");
      got = other.pop();
    }
    check(got.status() == Status::closed && ended != mortal, "QUEUE-5: `closed` comes after all");
  });
  if (!mortal) return;
  ModelPeers& third = world.recoverer(run, 2);
  run.process("recoverer", false, [&third] {
    while (!has_ended(0)) pause();
    third.recover_dead();
  });
}

// Closed when all lanes are, and drained when all are. Who closes may die in between; what says that it is
// closed takes nothing more, in no lane.
void close_lanes(Run& run, bool mortal) {
  auto& world = run.ghost<TaskWorld>(run, 3U, two_lanes);
  Queue& queue = world.queue(run, world.joined(run, 0));
  check(static_cast<bool>(queue.push(1, Deadline::never(), in_lane_1)), "there is room");
  run.process("closer", mortal, [&queue] { check(queue.close() == Status::ready, ""); });
  Queue& other = world.queue(run, world.joined(run, 1));
  run.process("consumer", false, [&world, &other, mortal] {
    for (int n = 0; n < 3; ++n) {
      auto task = mortal ? other.try_pop() : other.pop();
      if (task.status() == Status::closed) {
        check(world.completed[1] == 1, "QUEUE-5: `closed` comes after all tasks");
        return;
      }
      if (!task) continue;
      world.begin(task);
      world.complete(task);
    }
    check(mortal, "a pop for ever ends with the last task");
  });
  Queue& producer = world.queue(run, world.joined(run, 2));
  run.process("producer", false, [&producer] {
    const bool is_closed = producer.is_closed();
    const Pushed pushed = producer.try_push(2, in_lane_1);
    if (is_closed) check(pushed.status == Status::closed, "QUEUE-5: it was closed");
  });
}

// Two lanes are drained one after the other, but never both at the same time: nobody hears `closed`. Who
// opens the queue, and who closes it and ends the task of the other lane, know of each other or do not.
void never_both(Run& run, bool one_does_all) {
  auto& world = run.ghost<TaskWorld>(run, 3U, two_lanes);
  Queue& queue = world.queue(run, world.joined(run, 0));
  check(static_cast<bool>(queue.push(1, Deadline::never(), in_lane_1)), "there is room");
  auto& task = run.ghost<Task>(queue.pop());
  check(queue.close() == Status::ready, "");
  Queue& other = world.queue(run, world.joined(run, 2));
  auto& pushed = run.ghost<bool>(false);
  const auto end = [&queue, &task] {
    check(queue.close() == Status::ready, "");
    check(task.complete() == Status::ready, "a lease is not lost");
  };
  run.process("opener", false, [&other, &pushed, end, one_does_all] {
    check(other.reopen() == Status::ready, "");
    check(static_cast<bool>(other.try_push(2)), "it is open");
    pushed = true;
    if (one_does_all) end();
  });
  if (!one_does_all) {
    run.process("closer", false, [&pushed, end] {
      while (!pushed) pause();
      end();
    });
  }
  Queue& third = world.queue(run, world.joined(run, 1));
  run.process("consumer", false, [&third] {
    for (int n = 0; n < 2; ++n) {
      auto got = third.try_pop();
      check(got.status() != Status::closed, "QUEUE-5: there always was a task");
      if (got) return;
    }
  });
}

}  // namespace

std::vector<Scenario> lane_scenarios() {
  const auto awake = [](int preemptions, int stale, int deaths = 0) {
    return Bounds{
        .preemptions = preemptions, .deaths = deaths, .stale = stale, .inner_timeouts = false};
  };
  return {
      {"queue/reopen", awake(2, 2), reopen},
      {"queue/reopen_close", awake(2, 1), [](Run& run) { close_again(run, false, false); }},
      {"queue/reopen_letter", awake(2, 1), [](Run& run) { close_again(run, true, false); }},
      {"queue/reopen_dead",
       {.preemptions = 1, .deaths = 1, .stale = 1},
       [](Run& run) { close_again(run, true, true); }},
      {"queue/lanes_wake", awake(1, 2), wake},
      {"queue/lanes_end", awake(2, 2), [](Run& run) { worker_of_lane_1(run, false); }},
      {"queue/lanes_repair", awake(1, 1, 1), [](Run& run) { worker_of_lane_1(run, true); }},
      {"queue/lanes_close", awake(1, 1), [](Run& run) { close_lanes(run, false); }},
      {"queue/lanes_dead_closer",
       {.preemptions = 1, .deaths = 1, .stale = 1},
       [](Run& run) { close_lanes(run, true); }},
      {"queue/lanes_never_both", awake(2, 1), [](Run& run) { never_both(run, true); }},
      {"queue/lanes_never_both_apart", awake(1, 2), [](Run& run) { never_both(run, false); }},
  };
}

}  // namespace heddle::model

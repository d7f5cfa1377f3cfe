// Results of tasks: one whole result for each task, the first one, whoever dies, and however slow its
// readers are.

#include "model/task_world.hpp"

namespace heddle::model {
namespace {

using Queue = TaskWorld::Queue;
using Task = TaskWorld::Task;
using Two = std::array<std::uint64_t, 2>;  // both alike, so that a torn one is told

constexpr Two result_of(std::uint64_t who) { return {who, who}; }

// What a result may be: whole, and of one of those who ended the task.
std::uint64_t whole(const Two& result) {
  check(result[0] == result[1], "RESULT-2: a result of two halves");
  check(result[0] >= 1 && result[0] <= 3, "RESULT-2: a result that nobody gave");
  return result[0];
}

// The two leased tasks of a queue that keeps `results`; all is by process 0.
struct Leased {
  Leased(Run& run, Queue& queue, int count) {
    for (int i = 0; i < count; ++i) {
      const Pushed pushed = queue.push(static_cast<std::uint64_t>(i));
      check(static_cast<bool>(pushed), "there are two slots");
      ids[static_cast<std::size_t>(i)] = pushed.id;
    }
    for (int i = 0; i < count; ++i) {
      tasks[static_cast<std::size_t>(i)] = &run.ghost<Task>(queue.pop());
    }
  }
  std::array<TaskId, 2> ids{};
  std::array<Task*, 2> tasks{};
};

Queue::Options keeping(std::uint32_t results, std::uint32_t max_tries = 0) {
  return {.capacity = 2, .max_tries = max_tries, .result_bytes = sizeof(Two), .results = results};
}

// A worker completes its task, and may die at any step of it; then a second one does the task again.
// Somebody waits for the result, and gets one, whole, and the same when it asks again. RESULT-1, -2
void redone(Run& run, bool mortal) {
  auto& world = run.ghost<TaskWorld>(run, 3U, keeping(2));
  Queue& queue = world.queue(run, world.joined(run, 0));
  auto& leased = run.ghost<Leased>(run, queue, 1);
  run.process("worker", mortal, [&leased] {
    check(leased.tasks[0]->complete(result_of(1)) == Status::ready, "a lease is not lost");
  });
  ModelPeers& second = world.recoverer(run, 1);
  if (mortal) {
    run.process("second", false, [&world, &second] {
      while (!has_ended(0)) pause();
      second.recover_dead();
      Queue its(world.memory, second);
      auto task = its.try_pop();
      if (task) check(task.complete(result_of(2)) == Status::ready, "a lease is not lost");
    });
  }
  Peers& third = world.joined(run, 2);
  run.process("waiter", false, [&world, &third, &leased] {
    Queue its(world.memory, third);
    its.wait_strategy(WaitStrategy::sleep);
    Two first{}, again{};
    check(its.result(leased.ids[0], first) == Status::ready, "a task that is done has a result");
    check(its.result(leased.ids[0], again) == Status::ready, "RESULT-1: a result stays");
    check(whole(first) == whole(again), "RESULT-1: a task has one result");
  });
  run.finally([&queue, &leased] {
    Two result{};
    check(queue.result(leased.ids[0], result, Deadline::now()) == Status::ready, "it stays");
    whole(result);
  });
}

// One entry for two tasks. A reader copies the first one's result while the second one's comes. RESULT-2
void later_lap(Run& run) {
  auto& world = run.ghost<TaskWorld>(run, 2U, keeping(1));
  Queue& queue = world.queue(run, world.joined(run, 0));
  auto& leased = run.ghost<Leased>(run, queue, 2);
  check(leased.tasks[0]->complete(result_of(1)) == Status::ready, "a lease is not lost");
  run.process("worker", false, [&leased] {
    check(leased.tasks[1]->complete(result_of(2)) == Status::ready, "a lease is not lost");
  });
  Peers& second = world.joined(run, 1);
  run.process("reader", false, [&world, &second, &leased] {
    Queue its(world.memory, second);
    its.wait_strategy(WaitStrategy::sleep);
    Two result{};
    const Status got = its.result(leased.ids[0], result, Deadline::now());
    check(got == Status::ready || got == Status::expired, "it is there, or another has come");
    if (got == Status::ready) check(whole(result) == 1, "RESULT-2: a result of another task");
    check(its.result(leased.ids[1], result) == Status::ready, "the later one stays");
    check(whole(result) == 2, "RESULT-2: a result of another task");
  });
}

// One entry for two tasks that end at the same time. One of them may find it being written, or taken by
// the later one, and then has no result; who waits for it hears so. Nothing is lost uncounted. RESULT-3
void both_end(Run& run, std::size_t awaited) {
  auto& world = run.ghost<TaskWorld>(run, 3U, keeping(1));
  Queue& queue = world.queue(run, world.joined(run, 0));
  auto& leased = run.ghost<Leased>(run, queue, 2);
  for (std::size_t i = 0; i < 2; ++i) {
    run.process(i == 0 ? "worker 1" : "worker 2", false, [&leased, i] {
      check(leased.tasks[i]->complete(result_of(i + 1)) == Status::ready, "a lease is not lost");
    });
  }
  Peers& third = world.joined(run, 2);
  auto& read = run.ghost<bool>(false);
  run.process("waiter", false, [&world, &third, &leased, &read, awaited] {
    Queue its(world.memory, third);
    its.wait_strategy(WaitStrategy::sleep);
    Two result{};
    const Status got = its.result(leased.ids[awaited], result);
    check(got == Status::ready || got == Status::expired, "who waits for a result hears of it");
    if (got == Status::ready) check(whole(result) == awaited + 1, "RESULT-2: another task's");
    read = got == Status::ready;
  });
  run.finally([&queue, &leased, &read, awaited] {
    std::uint64_t there = queue.stats().results_expired;
    bool is_there = false;
    for (std::size_t i = 0; i < 2; ++i) {
      Two result{};
      const Status got = queue.result(leased.ids[i], result, Deadline::now());
      check(got == Status::ready || got == Status::expired, "a task that is done has an answer");
      if (got == Status::ready) check(whole(result) == i + 1, "RESULT-2: a result of another task");
      there += got == Status::ready ? 1 : 0;
      if (i == awaited) is_there = got == Status::ready;
    }
    if (read && !is_there && there == 1) ++there;  // it was read before it went: not counted
    check(there == 2, "RESULT-3: each is there, or counted as expired");
  });
}

// A worker dies over its result; two recover it, and both look for the task. Who gets it can write a
// result in its turn: the entry was repaired before the task came back.
void two_recoverers(Run& run) {
  auto& world = run.ghost<TaskWorld>(run, 3U, keeping(2));
  Queue& queue = world.queue(run, world.joined(run, 0));
  auto& leased = run.ghost<Leased>(run, queue, 1);
  auto& done = run.ghost<int>(0);
  run.process("worker", true, [&leased, &done] {
    if (leased.tasks[0]->complete(result_of(1)) == Status::ready) ++done;
  });
  for (std::size_t i = 1; i < 3; ++i) {
    ModelPeers& peers = world.recoverer(run, i);
    run.process(i == 1 ? "survivor 1" : "survivor 2", false, [&world, &peers, &done, i] {
      peers.recover_dead();
      Queue its(world.memory, peers);
      auto task = its.try_pop();
      if (!task) return;
      check(task.complete(result_of(i + 1)) == Status::ready, "a lease is not lost");
      ++done;
    });
  }
  run.finally([&world, &queue, &leased, &done] {
    world.participants.recover_dead(nobody);
    check(queue.count().leased == 0, "the task comes back");
    if (done == 0) return;
    Two result{};
    check(queue.result(leased.ids[0], result, Deadline::now()) == Status::ready,
          "a task that is done has a result");
    whole(result);
  });
}

// Who recovers the dead writer of a result is slow. Another has done so meanwhile, and taken the place
// of the dead, and writes the same result: its claim stays its own. The slow one then ends another task,
// which has the same entry.
void newcomer(Run& run) {
  auto& world = run.ghost<TaskWorld>(run, 2U, keeping(1));
  Queue& queue = world.queue(run, world.joined(run, 0));
  ModelPeers& slow = world.recoverer(run, 1);
  auto& leased = run.ghost<Leased>(run, queue, 1);
  Queue& other = world.queue(run, slow);
  check(static_cast<bool>(other.push(1)), "there are two slots");
  auto& later = run.ghost<Task>(other.pop());
  auto& done = run.ghost<std::uint64_t>(0U);
  run.process("worker", true, [&leased, &done] {
    if (leased.tasks[0]->complete(result_of(1)) == Status::ready) ++done;
  });
  run.process("slow", false, [&slow, &later, &done] {
    slow.recover_dead();
    check(later.complete(result_of(2)) == Status::ready, "a lease is not lost");
    ++done;
  });
  auto& late = run.ghost<ModelPeers>(world.participants);
  run.process("newcomer", false, [&world, &late, &done] {
    if (!late.join()) return;
    Queue its(world.memory, late);
    auto task = its.try_pop();
    if (!task) return;
    check(task.complete(result_of(3)) == Status::ready,
          "a slow recoverer has taken a newcomer's task");
    ++done;
  });
  run.finally([&queue, &leased, &done] {
    if (done < 2) return;
    std::uint64_t there = queue.stats().results_expired;
    for (const TaskId id : {leased.ids[0], leased.ids[0] + 1}) {
      Two result{};
      const Status got = queue.result(id, result, Deadline::now());
      check(got == Status::ready || got == Status::expired, "a task that is done has an answer");
      if (got == Status::ready) whole(result), ++there;
    }
    // One more if the dead had put it there: the newcomer then found its lap gone.
    check(there >= 2, "RESULT-3: each is there, or counted as expired");
  });
}

// A dead letter is dropped, and who does it may die at any step; somebody waits for its result. What is
// not dropped can be retried, and then has a result.
void dropped(Run& run) {
  auto& world = run.ghost<TaskWorld>(run, 3U, keeping(2, 1));
  Queue& queue = world.queue(run, world.joined(run, 0));
  auto& leased = run.ghost<Leased>(run, queue, 1);
  check(leased.tasks[0]->fail("no") == Status::ready, "a lease is not lost");
  auto& dropped = run.ghost<bool>(false);
  run.process("dropper", true, [&queue, &leased, &dropped] {
    check(queue.drop(leased.ids[0]) == Status::ready, "the letter is there");
    dropped = true;
  });
  Peers& second = world.joined(run, 1);
  run.process("waiter", false, [&world, &second, &leased] {
    Queue its(world.memory, second);
    its.wait_strategy(WaitStrategy::sleep);
    Two result{};
    check(its.result(leased.ids[0], result) == Status::failed, "a dead letter has no result");
  });
  Peers& third = world.joined(run, 2);
  run.finally([&world, &third, &leased, &dropped] {
    world.participants.recover_dead(nobody);
    Queue its(world.memory, third);
    Two result{};
    const LeaseCounts left = its.count();
    check(left.leased == 0 && left.waiting == 0, "a letter is there, or is not");
    if (dropped) check(left.dead == 0, "what is dropped is gone");
    if (left.dead == 0) {
      check(its.result(leased.ids[0], result, Deadline::now()) == Status::failed, "it stays so");
      return;
    }
    check(its.retry(leased.ids[0]) == Status::ready, "what is not dropped can be retried");
    auto task = its.try_pop();
    check(task && task.complete(result_of(3)) == Status::ready, "and is had, and done");
    check(its.result(leased.ids[0], result, Deadline::now()) == Status::ready && whole(result) == 3,
          "and has a result");
  });
}

// A task has ended and left no result. Its slot has another's push, whose producer may have stopped before
// it wrote the ticket, and been gone past. Who waits for the result hears that there is none.
void ended_without(Run& run) {
  auto& world = run.ghost<TaskWorld>(run, 3U, keeping(2));
  Peers& first = world.joined(run, 0);
  Queue& queue = world.queue(run, first);
  LeaseRing ring(world.memory, queue.shape().ring, first);
  const TaskId id = queue.push(1).id;
  check(queue.push(2).status == Status::ready, "there are two slots");
  for (int n = 0; n < 2; ++n) {
    LeaseRing::Lease lease;
    check(ring.try_lease(lease) == Status::ready && lease.complete() == Status::ready, "");
  }
  run.process("producer", false, [&queue] { static_cast<void>(queue.try_push(3)); });
  Queue& other = world.queue(run, world.joined(run, 1));
  run.process("other", false, [&other] {
    static_cast<void>(other.try_push(4));
    static_cast<void>(other.try_pop());
  });
  Queue& third = world.queue(run, world.joined(run, 2));
  run.process("waiter", false, [&third, id] {
    Two result{};
    check(third.result(id, result) == Status::expired, "RESULT-3: who waits for it hears so");
  });
}

}  // namespace

std::vector<Scenario> result_scenarios() {
  return {
      {"results/waiter",
       {.preemptions = 2, .stale = 2, .inner_timeouts = false},
       [](Run& run) { redone(run, false); }},
      {"results/redone",
       {.preemptions = 1, .deaths = 1, .stale = 1},
       [](Run& run) { redone(run, true); }},
      {"results/later_lap", {.preemptions = 2, .stale = 2, .inner_timeouts = false}, later_lap},
      {"results/both_end", {.preemptions = 1, .stale = 1}, [](Run& run) { both_end(run, 0); }},
      {"results/both_end_later",
       {.preemptions = 1, .stale = 1},
       [](Run& run) { both_end(run, 1); }},
      {"results/two_recoverers", {.preemptions = 1, .deaths = 1, .stale = 1}, two_recoverers},
      {"results/newcomer", {.preemptions = 2, .deaths = 1, .stale = 1}, newcomer},
      {"results/ended_without", {.preemptions = 2, .stale = 0, .alone = 400}, ended_without},
      {"results/dropped", {.preemptions = 1, .deaths = 1, .stale = 1}, dropped},
  };
}

}  // namespace heddle::model

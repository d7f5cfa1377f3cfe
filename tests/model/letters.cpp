// Dead letters: a task that was tried often enough stays in its slot until somebody asks for it.

#include "model/task_world.hpp"

namespace heddle::model {
namespace {

using Queue = TaskWorld::Queue;
using Task = TaskWorld::Task;
using std::chrono::milliseconds;

// A dead letter of process 0, after `max_tries` tries.
TaskId make_letter(Queue& queue, std::uint64_t value, std::string_view reason) {
  const Pushed pushed = queue.push(value);
  check(static_cast<bool>(pushed), "there is a slot");
  for (std::uint32_t i = 0; i < queue.shape().ring.max_tries; ++i) {
    auto task = queue.pop();
    check(task.id() == pushed.id && task.fail(reason) == Status::ready, "a lease is not lost");
  }
  check(queue.count().dead == 1, "after the last try it is a dead letter");
  return pushed.id;
}

// The tries: as many anew for each retry; at once, whatever delay the last failure asked for. A letter
// that is asked for in vain stays as it is.
void tries(Run& run) {
  auto& world = run.ghost<TaskWorld>(run, 1U, Queue::Options{.capacity = 2, .max_tries = 3});
  Queue& queue = world.queue(run, world.joined(run, 0));
  run.process("only", false, [&queue] {
    const TaskId id = make_letter(queue, 1, "one");
    for (int round = 0; round < 3; ++round) {
      check(queue.close() == Status::ready && queue.retry(id) == Status::closed, "it is closed");
      const auto letters = queue.dead_letters();
      check(letters.size() == 1 && letters[0].id == id && letters[0].reason == "one",
            "the letter is as it was");
      check(queue.reopen() == Status::ready && queue.retry(id) == Status::ready, "now it can be");
      for (int n = 0; n < 3; ++n) {
        check(queue.count().dead == 0, "as many tries as before");
        auto task = queue.pop(Deadline::now());
        check(task && task.fail("one", milliseconds(n == 2 ? 1000 : 0)) == Status::ready,
              "a task is had when it is due, a retried one at once");
      }
      check(queue.count().dead == 1, "after the last try it is a dead letter");
    }
    check(queue.drop(id) == Status::ready && queue.drop(id) == Status::empty, "and it can go");
    check(queue.retry(id) == Status::empty && queue.count().dead == 0, "");
  });
}

// A slot has had a letter before, with a reason. The worker of the next one fails, or dies over it: its
// letter has its own reason or none, never the older one's.
void by_death(Run& run) {
  auto& world = run.ghost<TaskWorld>(run, 2U, Queue::Options{.capacity = 2, .max_tries = 1});
  Queue& queue = world.queue(run, world.joined(run, 0));
  check(queue.drop(make_letter(queue, 1, "an older one's reason")) == Status::ready, "");
  check(queue.push(2) && queue.pop().complete() == Status::ready, "the other slot");
  const Pushed pushed = queue.push(3);
  auto& task = run.ghost<Task>(queue.pop());
  auto& failed = run.ghost<bool>(false);
  run.process("worker", true, [&task, &failed] {
    check(task.fail("its own") == Status::ready, "a lease is not lost");
    failed = true;
  });
  ModelPeers& second = world.recoverer(run, 1);
  const auto look = [&world, &second, &failed, pushed] {
    const bool after = has_died(0);
    second.recover_dead();
    Queue its(world.memory, second);
    check(!its.try_pop(), "there was one try");
    const auto letters = its.dead_letters();
    if (after) check(letters.size() == 1, "it is a dead letter");
    for (const DeadLetter& letter : letters) {
      check(letter.id == pushed.id && letter.tries == 1, "of this task");
      check(letter.reason == "its own" || (letter.reason.empty() && !failed), "its own reason");
    }
  };
  run.process("looker", false, look);
  run.finally([look] { look(); });
}

// One retries a letter and another drops it, or retries it too: one of them has it. Who retries may die.
void two_ask(Run& run, bool drops, bool mortal) {
  auto& world = run.ghost<TaskWorld>(run, 3U, Queue::Options{.capacity = 2, .max_tries = 2});
  Queue& queue = world.queue(run, world.joined(run, 0));
  const TaskId id = make_letter(queue, 1, "no");
  auto& first = run.ghost<Status>(Status::busy);
  auto& second = run.ghost<Status>(Status::busy);
  run.process("retrier", mortal, [&queue, &first, id] { first = queue.retry(id); });
  Queue& other = world.queue(run, world.joined(run, 1));
  run.process(drops ? "dropper" : "other", false,
              [&other, &second, drops, id] { second = drops ? other.drop(id) : other.retry(id); });
  Peers& third = world.joined(run, 2);
  run.process("consumer", false, [&world, &third] {
    Queue its(world.memory, third);
    auto task = its.try_pop();
    if (!task) return;
    world.begin(task);
    world.complete(task);
  });
  run.finally([&world, &third, &first, &second, drops, mortal] {
    world.participants.recover_dead(nobody);
    Queue its(world.memory, third);
    const LeaseCounts left = its.count();
    check(left.leased == 0 && left.filling == 0, "nobody has it");
    const bool retried = first == Status::ready || (!drops && second == Status::ready);
    const bool gone = drops && second == Status::ready;
    if (!mortal) check(retried != gone, "one of them has the letter");
    if (gone)
      check(!retried && world.completed[1] == 0 && left.waiting + left.dead == 0, "dropped");
    if (retried)
      check(world.completed[1] + static_cast<int>(left.waiting) == 1, "it is a task again");
    check(world.completed[1] + static_cast<int>(left.waiting + left.dead) + (gone ? 1 : 0) == 1,
          "it is in one place");
  });
}

// QUEUE-5. Somebody retries a letter while the queue is closed and drained, and may die over it, or be
// so slow that a lease would be taken from it. `closed` is final: no task comes after it.
void retry_and_drain(Run& run, bool mortal) {
  const Queue::Options options{
      .capacity = 2, .max_tries = 2, .lease_timeout = milliseconds(mortal ? 0 : 5)};
  auto& world = run.ghost<TaskWorld>(run, 3U, options);
  Queue& queue = world.queue(run, world.joined(run, 0));
  const TaskId id = make_letter(queue, 1, "no");
  auto& retried = run.ghost<Status>(Status::busy);
  run.process("retrier", mortal, [&queue, &retried, id] { retried = queue.retry(id); });
  Peers& second = world.joined(run, 1);
  const auto drained = [&world, &second] {
    Queue its(world.memory, second);
    its.wait_strategy(WaitStrategy::sleep);
    static_cast<void>(its.close());
    while (auto task = its.pop()) {
      world.begin(task);
      world.complete(task);
    }
    pass(milliseconds(20));
    LeaseRing looker(world.memory, its.shape().ring, second);
    static_cast<void>(looker.recover_when_idle());
    check(its.pop(Deadline::now()).status() == Status::closed, "QUEUE-5: `closed` is final");
  };
  run.process("drainer", false, drained);
  run.finally([&world, &second, &retried] {
    world.participants.recover_dead(nobody);
    Queue its(world.memory, second);
    const LeaseCounts left = its.count();
    check(left.waiting == 0 && left.leased == 0 && left.filling == 0,
          "QUEUE-5: nothing comes after");
    check(world.completed[1] + static_cast<int>(left.dead) == 1, "and nothing is lost");
    if (retried == Status::ready) check(world.completed[1] == 1, "what is retried is done");
    if (retried == Status::closed) check(left.dead == 1, "or stays a dead letter");
    check(its.pop(Deadline::now()).status() == Status::closed, "QUEUE-5: `closed` is final");
  });
}

// Somebody lists the letters, while one is tried anew and fails for another reason. What is listed was
// so at some time: a try and the reason that it gave. QUEUE-8
void report(Run& run) {
  auto& world = run.ghost<TaskWorld>(run, 3U, Queue::Options{.capacity = 2, .max_tries = 1});
  Queue& queue = world.queue(run, world.joined(run, 0));
  const TaskId id = make_letter(queue, 1, "aaaaaaaaaaaaaaaa");
  run.process("retrier", false,
              [&queue, id] { check(queue.retry(id) == Status::ready, "the letter is there"); });
  Queue& other = world.queue(run, world.joined(run, 2));
  run.process("worker", false, [&other] {
    auto task = other.try_pop();
    if (task) check(task.fail("bbbbbbbbbbbbbbbb") == Status::ready, "and is tried again");
  });
  Peers& second = world.joined(run, 1);
  run.process("looker", false, [&world, &second, id] {
    const Queue its(world.memory, second);
    for (const DeadLetter& letter : its.dead_letters()) {
      check(letter.id == id, "of this task");
      check((letter.tries == 1 && letter.reason == "aaaaaaaaaaaaaaaa") ||
                (letter.tries == 2 && letter.reason == "bbbbbbbbbbbbbbbb"),
            "a letter is listed as it was");
    }
  });
}

// The same, while a letter is dropped, and its slot has the next task, and its letter. QUEUE-8
void report_reused(Run& run) {
  auto& world = run.ghost<TaskWorld>(run, 2U, Queue::Options{.capacity = 2, .max_tries = 1});
  Queue& queue = world.queue(run, world.joined(run, 0));
  const TaskId id = make_letter(queue, 1, "a");
  check(queue.push(2) && queue.pop().complete() == Status::ready, "the other slot");
  run.process("other", false, [&queue, id] {
    check(queue.drop(id) == Status::ready, "the letter is there");
    const Pushed pushed = queue.try_push(3);
    check(pushed && pushed.id == id + 2, "and its slot is free");
    auto task = queue.try_pop();
    check(task && task.fail("b") == Status::ready, "and the next task fails");
  });
  Peers& second = world.joined(run, 1);
  run.process("looker", false, [&world, &second, id] {
    const Queue its(world.memory, second);
    for (const DeadLetter& letter : its.dead_letters()) {
      check(letter.tries == 1 && ((letter.id == id && letter.reason == "a") ||
                                  (letter.id == id + 2 && letter.reason == "b")),
            "a letter is listed as it was");
    }
  });
}

// Who recovers the dead that had asked for a letter is slow. Another has done so meanwhile, has taken
// their place and asks for the same letter: it stays its own.
void slow_recoverer(Run& run) {
  auto& world = run.ghost<TaskWorld>(run, 2U, Queue::Options{.capacity = 2, .max_tries = 1});
  Queue& queue = world.queue(run, world.joined(run, 0));
  const TaskId id = make_letter(queue, 1, "no");
  run.process("retrier", true, [&queue, id] { static_cast<void>(queue.retry(id)); });
  ModelPeers& slow = world.recoverer(run, 1);
  run.process("slow", false, [&slow] { slow.recover_dead(); });
  auto& late = run.ghost<ModelPeers>(world.participants);
  run.process("newcomer", false, [&world, &late, id] {
    if (!late.join()) return;
    Queue its(world.memory, late);
    const Status got = its.drop(id);
    check(got == Status::ready || got == Status::empty, "a slow recoverer has taken its letter");
  });
}

}  // namespace

std::vector<Scenario> letter_scenarios() {
  return {
      {"queue/letter_tries", {.preemptions = 0, .stale = 0}, tries},
      {"queue/letter_by_death", {.preemptions = 2, .deaths = 1, .stale = 1}, by_death},
      {"queue/letter_retry_drop",
       {.preemptions = 2, .stale = 1},
       [](Run& run) { two_ask(run, true, false); }},
      {"queue/letter_retry_retry",
       {.preemptions = 2, .stale = 1},
       [](Run& run) { two_ask(run, false, false); }},
      {"queue/letter_dead_retrier",
       {.preemptions = 1, .deaths = 1, .stale = 1},
       [](Run& run) { two_ask(run, true, true); }},
      {"queue/letter_drain",
       {.preemptions = 1, .deaths = 1, .stale = 1},
       [](Run& run) { retry_and_drain(run, true); }},
      {"queue/letter_slow_retrier",
       {.preemptions = 2, .stale = 1},
       [](Run& run) { retry_and_drain(run, false); }},
      {"queue/letter_report", {.preemptions = 2, .stale = 2}, report},
      {"queue/letter_report_reused", {.preemptions = 2, .stale = 2}, report_reused},
      {"queue/letter_recovered", {.preemptions = 2, .deaths = 1, .stale = 1}, slow_recoverer},
  };
}

}  // namespace heddle::model

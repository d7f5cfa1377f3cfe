// Tasks that have failed too often: max_tries, reasons, TaskQueue::dead_letters, retry and drop.

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "heddle/sync/task_queue.hpp"
#include "support/job.hpp"
#include "support/process.hpp"
#include "support/queue_in_memory.hpp"

namespace heddle {
namespace {

using namespace std::chrono_literals;
using test::FakePeers;
using test::Job;

using Fixture = test::QueueInMemory<Job>;
using Queue = TaskQueue<Job>;

constexpr std::uint32_t capacity = 64;
constexpr Queue::Options tries(std::uint32_t most) {
  return {.capacity = capacity, .max_tries = most};
}

TaskId push(Queue& queue, std::uint64_t number, std::uint32_t lane = 0) {
  const Pushed pushed = queue.try_push(Job::of(number), {.lane = lane});
  EXPECT_EQ(pushed.status, Status::ready);
  return pushed.id;
}
TaskId make_dead_letter(Queue& queue, std::uint64_t number, std::string_view reason = "no",
                        std::uint32_t lane = 0) {
  const TaskId id = push(queue, number, lane);
  for (std::uint32_t i = 0; i < queue.shape().ring.max_tries; ++i) {
    Task<Job> task = queue.try_pop();
    EXPECT_EQ(task.id(), id);
    EXPECT_EQ(task.fail(reason), Status::ready);
  }
  return id;
}
std::string only_reason(const Queue& queue) {
  const std::vector<DeadLetter> letters = queue.dead_letters();
  EXPECT_EQ(letters.size(), 1U);
  return letters.empty() ? "<none>" : letters[0].reason;
}

// ---- how a task becomes one

TEST(TaskQueueDeadLetters, come_of_tasks_that_have_failed_max_tries_times) {
  for (const std::uint32_t most : {1U, 2U, 3U, 7U}) {
    Fixture f(tries(most));
    Queue queue = f.open(f.me);
    const TaskId id = push(queue, 5);
    for (std::uint32_t i = 1; i <= most; ++i) {
      EXPECT_TRUE(queue.dead_letters().empty());
      Task<Job> task = queue.try_pop();
      ASSERT_TRUE(task) << i << " of " << most;
      EXPECT_EQ(task.tries(), i);
      ASSERT_EQ(task.fail("reason " + std::to_string(i)), Status::ready);
      EXPECT_FALSE(task);
    }
    EXPECT_EQ(queue.try_pop().status(), Status::empty);
    const std::vector<DeadLetter> letters = queue.dead_letters();
    ASSERT_EQ(letters.size(), 1U);
    EXPECT_EQ(letters[0].id, id);
    EXPECT_EQ(letters[0].tries, most);
    EXPECT_EQ(letters[0].worker, static_cast<std::uint32_t>(getpid()));
    EXPECT_EQ(letters[0].reason, "reason " + std::to_string(most));
    const QueueStats stats = queue.stats();
    EXPECT_EQ(stats.now.dead, 1U);
    EXPECT_EQ(stats.died, 1U);
    EXPECT_EQ(stats.now.waiting + stats.now.leased, 0U);
  }
}

TEST(TaskQueueDeadLetters, never_come_of_tasks_without_max_tries) {
  Fixture f({.capacity = capacity, .delays = true});
  Queue queue = f.open(f.me);
  push(queue, 5);
  for (std::uint64_t i = 1; i <= 3000; ++i) {
    Task<Job> task = queue.try_pop();
    ASSERT_TRUE(task) << i;
    if (i <= 2047) {
      EXPECT_EQ(task.tries(), i);
    } else {
      EXPECT_GE(task.tries(), 1024U);
    }
    ASSERT_EQ(task.fail("again"), Status::ready);
  }
  EXPECT_TRUE(queue.dead_letters().empty());
}

TEST(TaskQueueDeadLetters, come_of_tasks_whose_workers_die_too_often) {
  Fixture f(tries(2));
  Queue queue = f.open(f.third);
  const TaskId id = push(queue, 5);
  for (FakePeers* worker : {&f.me, &f.other}) {
    LeaseRing ring = f.ring(*worker);
    LeaseRing::Lease lease;
    ASSERT_EQ(ring.try_lease(lease), Status::ready);
    f.kill(*worker);
    QueueCore::repair(f.block.span(), f.table.dead_of(worker->self()));
  }
  EXPECT_EQ(queue.try_pop().status(), Status::empty);
  const std::vector<DeadLetter> letters = queue.dead_letters();
  ASSERT_EQ(letters.size(), 1U);
  EXPECT_EQ(letters[0].id, id);
  EXPECT_EQ(letters[0].tries, 2U);
  EXPECT_EQ(letters[0].reason, "") << "it died, and said nothing";
  EXPECT_EQ(queue.stats().died, 1U);
  EXPECT_EQ(queue.stats().recovered, 2U);
}

// A try is a try, however it ends: else what makes every worker throw would be tried for ever.
TEST(TaskQueueDeadLetters, come_of_tasks_that_are_dropped_or_released_at_their_last_try) {
  Fixture f(tries(2));
  Queue queue = f.open(f.me);
  push(queue, 1);
  ASSERT_EQ(queue.try_pop().release(), Status::ready);
  ASSERT_EQ(queue.count().waiting, 1U);
  ASSERT_EQ(queue.try_pop().release(), Status::ready);
  EXPECT_EQ(queue.count().dead, 1U);
  push(queue, 2);
  { const Task<Job> dropped = queue.try_pop(); }
  ASSERT_EQ(queue.count().waiting, 1U);
  { const Task<Job> dropped = queue.try_pop(); }
  EXPECT_EQ(queue.count().dead, 2U);
  EXPECT_EQ(queue.stats().died, 2U);
  EXPECT_EQ(queue.try_pop().status(), Status::empty);
}

TEST(TaskQueueDeadLetters, do_not_come_of_a_task_whose_lease_was_lost) {
  Fixture f({.capacity = capacity, .max_tries = 2, .lease_timeout = 1h});
  Queue queue = f.open(f.me), others = f.open(f.other);
  push(queue, 1);
  Task<Job> late = queue.try_pop();
  f.age_lease(0, 2h);
  Task<Job> task = others.pop(Deadline::after(test::patience));
  ASSERT_TRUE(task);
  EXPECT_EQ(late.fail("I was late"), Status::lost_lease);
  ASSERT_EQ(task.fail("mine"), Status::ready);
  EXPECT_EQ(only_reason(queue), "mine");
}

// ---- reasons

TEST(TaskQueueDeadLetters, keep_32_bytes_of_the_last_reason) {
  const std::string longest = "0123456789abcdef0123456789abcdef";
  Fixture f(tries(1));
  Queue queue = f.open(f.me);
  for (const std::string& reason :
       {std::string(), std::string("x"), longest.substr(0, 31), longest, longest + "and more"}) {
    const TaskId id = make_dead_letter(queue, 1, reason);
    EXPECT_EQ(only_reason(queue), reason.substr(0, 32));
    ASSERT_EQ(queue.drop(id), Status::ready);
  }
}

// The slot's memory is that of an older letter.
TEST(TaskQueueDeadLetters, do_not_show_the_reason_of_another_that_lay_in_the_slot_before) {
  Fixture f(tries(1));
  Queue queue = f.open(f.me), survivor = f.open(f.other);
  ASSERT_EQ(queue.drop(make_dead_letter(queue, 0, "of another task")), Status::ready);
  for (std::uint64_t i = 1; i < capacity; ++i) {
    push(queue, i);
    ASSERT_EQ(queue.try_pop().complete(), Status::ready);
  }
  push(queue, capacity);
  LeaseRing ring = f.ring(f.me);
  LeaseRing::Lease lease;
  ASSERT_EQ(ring.try_lease(lease), Status::ready);
  ASSERT_EQ(f.word(0).state(), LeaseState::leased) << "it is in the same slot";
  f.kill(f.me);
  ASSERT_EQ(survivor.pop(Deadline::after(12ms)).status(), Status::timeout);
  EXPECT_EQ(only_reason(survivor), "");
}

TEST(TaskQueueDeadLetters, do_not_show_the_reason_of_an_earlier_try) {
  Fixture f(tries(2));
  Queue queue = f.open(f.me), survivor = f.open(f.other);
  push(queue, 0);
  ASSERT_EQ(queue.try_pop().fail("the first time"), Status::ready);
  LeaseRing ring = f.ring(f.me);
  LeaseRing::Lease lease;
  ASSERT_EQ(ring.try_lease(lease), Status::ready);
  f.kill(f.me);
  ASSERT_EQ(survivor.pop(Deadline::after(12ms)).status(), Status::timeout);
  EXPECT_EQ(only_reason(survivor), "");
}

TEST(TaskQueueDeadLetters, of_one_who_died_after_it_gave_its_reason_keep_it) {
  Fixture f(tries(1));
  Queue queue = f.open(f.me), survivor = f.open(f.other);
  push(queue, 0);
  LeaseRing ring = f.ring(f.me);
  LeaseRing::Lease lease;
  ASSERT_EQ(ring.try_lease(lease), Status::ready);
  ASSERT_EQ(lease.begin_ending(), Status::ready);
  std::memcpy(f.note(0).reason, "why", 3);
  f.note(0).reason_grant.store(1, relaxed);
  f.kill(f.me);
  ASSERT_EQ(survivor.pop(Deadline::after(12ms)).status(), Status::timeout);
  EXPECT_EQ(only_reason(survivor), "why");
}

// ---- retry and drop

TEST(TaskQueueDeadLetters, that_are_retried_have_as_many_tries_again) {
  for (const std::uint32_t most : {1U, 2U, 3U, 5U}) {
    Fixture f(tries(most));
    Queue queue = f.open(f.me);
    const TaskId id = make_dead_letter(queue, 8);
    for (std::uint32_t life = 1; life <= 3; ++life) {
      ASSERT_EQ(queue.retry(id), Status::ready);
      EXPECT_TRUE(queue.dead_letters().empty());
      for (std::uint32_t i = 1; i <= most; ++i) {
        Task<Job> task = queue.try_pop();
        ASSERT_TRUE(task) << "try " << i << " of " << most << " in life " << life;
        EXPECT_EQ(task.id(), id);
        EXPECT_EQ(task.tries(), life * most + i);
        EXPECT_EQ(task.payload().number, 8U);
        EXPECT_TRUE(task.payload().whole());
        ASSERT_EQ(task.fail(), Status::ready);
      }
      EXPECT_EQ(queue.try_pop().status(), Status::empty);
    }
    ASSERT_EQ(queue.retry(id), Status::ready);
    ASSERT_EQ(queue.try_pop().complete(), Status::ready);
    EXPECT_TRUE(f.all_free());
  }
}

TEST(TaskQueueDeadLetters, that_are_retried_are_due_at_once_whatever_their_last_failure_asked) {
  Fixture f(tries(1));
  Queue queue = f.open(f.me);
  const TaskId id = push(queue, 1);
  ASSERT_EQ(queue.try_pop().fail("in an hour", 1h), Status::ready);
  ASSERT_EQ(queue.retry(id), Status::ready);
  EXPECT_TRUE(queue.try_pop());
}

TEST(TaskQueueDeadLetters, that_are_dropped_leave_their_slots_free) {
  Fixture f(tries(1));
  Queue queue = f.open(f.me);
  const TaskId a = make_dead_letter(queue, 1), b = make_dead_letter(queue, 2);
  ASSERT_EQ(queue.drop(a), Status::ready);
  ASSERT_EQ(queue.dead_letters().size(), 1U);
  EXPECT_EQ(queue.dead_letters()[0].id, b);
  ASSERT_EQ(queue.drop(b), Status::ready);
  EXPECT_TRUE(queue.dead_letters().empty());
  EXPECT_TRUE(f.all_free());
  EXPECT_EQ(queue.stats().died, 2U) << "it is history";
}

TEST(TaskQueueDeadLetters, are_retried_and_dropped_once) {
  Fixture f(tries(1));
  Queue queue = f.open(f.me);
  const TaskId a = make_dead_letter(queue, 1), b = make_dead_letter(queue, 2);
  ASSERT_EQ(queue.retry(a), Status::ready);
  EXPECT_EQ(queue.retry(a), Status::empty);
  EXPECT_EQ(queue.drop(a), Status::empty);
  ASSERT_EQ(queue.drop(b), Status::ready);
  EXPECT_EQ(queue.drop(b), Status::empty);
  EXPECT_EQ(queue.retry(b), Status::empty);
}

TEST(TaskQueueDeadLetters, are_not_found_by_ids_that_are_none) {
  Fixture f({.capacity = capacity, .lanes = 2, .max_tries = 1});
  Queue queue = f.open(f.me);
  const TaskId dead = make_dead_letter(queue, 1);
  const TaskId waiting = push(queue, 2);
  const Task<Job> leased = queue.try_pop();
  push(queue, 3);
  for (const TaskId id : {dead + 1, waiting, leased.id(), dead + 2 * capacity,
                          dead + (TaskId{capacity} << 40) * 2, ~TaskId{0}}) {
    if (id == dead) continue;
    EXPECT_EQ(queue.retry(id), Status::empty) << id;
    EXPECT_EQ(queue.drop(id), Status::empty) << id;
  }
  EXPECT_EQ(queue.dead_letters().size(), 1U);
}

TEST(TaskQueueDeadLetters, are_nobodys_on_a_queue_without_max_tries) {
  Fixture f({.capacity = capacity});
  Queue queue = f.open(f.me);
  const TaskId id = push(queue, 1);
  EXPECT_EQ(queue.retry(id), Status::empty);
  EXPECT_EQ(queue.drop(id), Status::empty);
  EXPECT_TRUE(queue.dead_letters().empty());
}

TEST(TaskQueueDeadLetters, keep_the_ids_of_their_lanes) {
  Fixture f({.capacity = capacity, .lanes = 3, .max_tries = 1});
  Queue queue = f.open(f.me);
  std::vector<TaskId> ids;
  for (std::uint32_t i = 0; i < 9; ++i) ids.push_back(make_dead_letter(queue, i, "no", i % 3));
  ASSERT_EQ(queue.dead_letters().size(), 9U);
  for (const TaskId id : ids) {
    ASSERT_EQ(queue.retry(id), Status::ready);
    Task<Job> task = queue.try_pop();
    EXPECT_EQ(task.id(), id);
    ASSERT_EQ(task.complete(), Status::ready);
  }
  EXPECT_TRUE(f.all_free());
}

TEST(TaskQueueDeadLetters, are_not_for_a_forked_child) {
  Fixture f(tries(1));
  FakePeers child(f.table, 0);
  Queue queue = f.open(child);
  const TaskId id = make_dead_letter(queue, 1);
  child.forked();
  EXPECT_EQ(queue.retry(id), Status::closed);
  EXPECT_EQ(queue.drop(id), Status::closed);
  EXPECT_EQ(queue.dead_letters().size(), 1U) << "it may look";
}

TEST(TaskQueueDeadLetters, that_are_retried_wake_a_sleeping_consumer) {
  Fixture f(tries(1));
  Queue queue = f.open(f.me);
  const TaskId id = make_dead_letter(queue, 1);
  Event& event = f.header().not_empty;
  const std::uint32_t announced = event.announce();
  ASSERT_EQ(queue.retry(id), Status::ready);
  EXPECT_NE(event.look(), announced);
}

TEST(TaskQueueDeadLetters, that_are_dropped_wake_a_producer_who_waits_for_room) {
  Fixture f(tries(1));
  Queue queue = f.open(f.me);
  const TaskId id = make_dead_letter(queue, 1);
  Event& event = f.header().not_full;
  const std::uint32_t announced = event.announce();
  ASSERT_EQ(queue.drop(id), Status::ready);
  EXPECT_NE(event.look(), announced);
}

// ---- who holds a letter, to retry or to drop it

// Half of a retry or a drop.
struct Held {
  Held(Fixture& f, FakePeers& peers, TaskId id) : ring(f.ring(peers)) {
    EXPECT_EQ(ring.hold_letter(lease, id), Status::ready);
  }
  LeaseRing ring;
  LeaseRing::Lease lease;
};

TEST(TaskQueueDeadLetters, stay_letters_when_who_retries_or_drops_them_dies) {
  Fixture f(tries(3));
  Queue queue = f.open(f.other);
  const TaskId id = make_dead_letter(queue, 1, "why");
  const Held held(f, f.me, id);
  EXPECT_EQ(queue.retry(id), Status::empty) << "one at a time";
  EXPECT_EQ(queue.drop(id), Status::empty);
  f.kill(f.me);
  EXPECT_EQ(queue.pop(Deadline::after(12ms)).status(), Status::timeout) << "nobody asked for it";
  ASSERT_EQ(queue.dead_letters().size(), 1U);
  EXPECT_EQ(queue.dead_letters()[0].id, id);
  EXPECT_EQ(queue.retry(id), Status::ready);
  EXPECT_TRUE(queue.try_pop());
}

TEST(TaskQueueDeadLetters, held_by_the_dead_are_had_by_who_asks_for_them) {
  for (const bool drops : {false, true}) {
    Fixture f(tries(1));
    Queue queue = f.open(f.other);
    const TaskId id = make_dead_letter(queue, 1);
    const Held held(f, f.me, id);
    f.kill(f.me);
    EXPECT_EQ(drops ? queue.drop(id) : queue.retry(id), Status::ready);
    EXPECT_EQ(static_cast<bool>(queue.try_pop()), !drops);
  }
}

TEST(TaskQueueDeadLetters, are_not_taken_by_the_lease_timeout_from_who_drops_them) {
  Fixture f({.capacity = capacity, .max_tries = 3, .lease_timeout = 1h});
  Queue queue = f.open(f.other);
  const TaskId id = make_dead_letter(queue, 1);
  const Held slow(f, f.me, id);
  f.age_lease(0, 1000h);
  EXPECT_EQ(queue.pop(Deadline::after(30ms)).status(), Status::timeout);
  EXPECT_EQ(queue.stats().expired, 0U);
}

// ---- many of them

TEST(TaskQueueDeadLetters, that_fill_the_ring_leave_no_room_until_one_is_dropped_or_done) {
  Fixture f(tries(1));
  Queue queue = f.open(f.me);
  std::vector<TaskId> ids;
  for (std::uint64_t i = 0; i < capacity; ++i) ids.push_back(make_dead_letter(queue, i));
  EXPECT_EQ(queue.count().dead, capacity);
  EXPECT_EQ(queue.try_push(Job::of(99)).status, Status::full);
  EXPECT_EQ(queue.push(Job::of(99), Deadline::after(2ms)).status, Status::timeout);
  EXPECT_EQ(queue.try_pop().status(), Status::empty);
  ASSERT_EQ(queue.drop(ids[40]), Status::ready);
  const TaskId pushed = push(queue, 99);
  EXPECT_EQ(queue.try_push(Job::of(100)).status, Status::full);
  ASSERT_EQ(queue.retry(ids[7]), Status::ready);
  EXPECT_EQ(queue.try_push(Job::of(100)).status, Status::full);
  for (int i = 0; i < 2; ++i) {
    Task<Job> task = queue.try_pop();
    ASSERT_TRUE(task);
    EXPECT_TRUE(task.id() == pushed || task.id() == ids[7]);
    ASSERT_EQ(task.complete(), Status::ready);
  }
  for (std::uint64_t i = 0; i < capacity; ++i) {
    if (i == 40 || i == 7) continue;
    ASSERT_EQ(queue.drop(ids[i]), Status::ready) << "letter " << i << " is lost";
  }
  EXPECT_TRUE(f.all_free());
}

TEST(TaskQueueDeadLetters, stay_while_the_ring_is_gone_round_many_times) {
  Fixture f(tries(1));
  Queue queue = f.open(f.me);
  const TaskId id = make_dead_letter(queue, 77, "still here");
  for (std::uint64_t i = 0; i < 20 * capacity; ++i) {
    push(queue, i);
    ASSERT_EQ(queue.try_pop().complete(), Status::ready);
  }
  EXPECT_EQ(only_reason(queue), "still here");
  EXPECT_EQ(queue.dead_letters()[0].id, id);
  ASSERT_EQ(queue.retry(id), Status::ready);
  Task<Job> task = queue.try_pop();
  ASSERT_TRUE(task);
  EXPECT_EQ(task.payload().number, 77U);
}

TEST(TaskQueueDeadLetters, are_found_by_ids_from_before_the_cycles_wrapped) {
  Fixture f(tries(1), test::last_cycle);
  Queue queue = f.open(f.me);
  const TaskId before = make_dead_letter(queue, 1);
  for (std::uint64_t i = 0; i < 2 * capacity; ++i) {
    push(queue, i);
    ASSERT_EQ(queue.try_pop().complete(), Status::ready);
  }
  const TaskId after = make_dead_letter(queue, 2);
  EXPECT_LT(after, before);
  ASSERT_EQ(queue.dead_letters().size(), 2U);
  ASSERT_EQ(queue.retry(before), Status::ready);
  EXPECT_EQ(queue.try_pop().id(), before);
  ASSERT_EQ(queue.drop(after), Status::ready);
}

TEST(TaskQueueDeadLetters, are_listed_whole_while_others_retry_fail_and_drop_them) {
  Fixture f(tries(1));
  Queue queue = f.open(f.me);
  std::atomic<bool> done{false};
  std::thread lister([&, looks = f.open(f.other)]() mutable {
    while (!done) {
      for (const DeadLetter& letter : looks.dead_letters()) {
        ASSERT_EQ(letter.reason, "of " + std::to_string(letter.id));
      }
    }
  });
  for (std::uint64_t i = 0; i < 5000; ++i) {
    const TaskId id = push(queue, i);
    const std::string reason = "of " + std::to_string(id);
    ASSERT_EQ(queue.try_pop().fail(reason), Status::ready);
    ASSERT_EQ(queue.retry(id), Status::ready);
    ASSERT_EQ(queue.try_pop().fail(reason), Status::ready);
    if (i >= 4) {
      ASSERT_EQ(queue.drop(id - 4), Status::ready);
    }
  }
  done = true;
  lister.join();
}

// ---- closed queues

// QUEUE-5: a dead letter is at rest.
TEST(TaskQueueDeadLetters, do_not_keep_a_closed_queue_from_being_drained) {
  Fixture f(tries(1));
  Queue queue = f.open(f.me);
  make_dead_letter(queue, 1);
  ASSERT_EQ(queue.close(), Status::ready);
  EXPECT_EQ(queue.pop().status(), Status::closed);
  EXPECT_EQ(queue.dead_letters().size(), 1U);
}

TEST(TaskQueueDeadLetters, of_a_closed_queue_are_not_retried_and_stay_as_they_were) {
  for (const bool drained : {false, true}) {
    Fixture f(tries(3));
    Queue queue = f.open(f.me);
    const TaskId id = make_dead_letter(queue, 1, "why");
    f.note(0).worker.store(4711, relaxed);
    ASSERT_EQ(queue.close(), Status::ready);
    if (drained) {
      ASSERT_EQ(queue.try_pop().status(), Status::closed);
    }
    for (int i = 0; i < 5; ++i) EXPECT_EQ(queue.retry(id), Status::closed);
    const std::vector<DeadLetter> letters = queue.dead_letters();
    ASSERT_EQ(letters.size(), 1U);
    EXPECT_EQ(letters[0].id, id);
    EXPECT_EQ(letters[0].tries, 3U);
    EXPECT_EQ(letters[0].worker, 4711U) << "of who had it last, not of who asked";
    EXPECT_EQ(letters[0].reason, "why");
    EXPECT_EQ(queue.stats().died, 1U);
    EXPECT_EQ(queue.try_pop().status(), Status::closed);
  }
}

TEST(TaskQueueDeadLetters, of_a_closed_queue_can_be_dropped_and_after_reopening_retried) {
  Fixture f(tries(1));
  Queue queue = f.open(f.me);
  const TaskId a = make_dead_letter(queue, 1), b = make_dead_letter(queue, 2);
  ASSERT_EQ(queue.close(), Status::ready);
  ASSERT_EQ(queue.try_pop().status(), Status::closed);
  EXPECT_EQ(queue.drop(a), Status::ready);
  EXPECT_EQ(queue.try_pop().status(), Status::closed);
  ASSERT_EQ(queue.reopen(), Status::ready);
  EXPECT_EQ(queue.retry(b), Status::ready);
  EXPECT_EQ(queue.try_pop().id(), b);
}

// QUEUE-5: who has heard `closed` has nothing more to do, whoever dies with a letter in hand.
TEST(TaskQueueDeadLetters, held_by_the_dead_bring_no_task_to_a_drained_queue) {
  Fixture f(tries(3));
  Queue queue = f.open(f.other);
  const TaskId id = make_dead_letter(queue, 1);
  ASSERT_EQ(queue.close(), Status::ready);
  ASSERT_EQ(queue.try_pop().status(), Status::closed);
  const Held held(f, f.me, id);
  f.kill(f.me);
  QueueCore::repair(f.block.span(), f.table.dead_of(f.me.self()));
  EXPECT_EQ(queue.try_pop().status(), Status::closed);
  EXPECT_EQ(queue.count().waiting, 0U);
  EXPECT_EQ(queue.dead_letters().size(), 1U);
}

TEST(TaskQueueDeadLetters, held_by_somebody_keep_the_drainers_waiting_until_it_is_done_with_them) {
  Fixture f(tries(1));
  Queue queue = f.open(f.other);
  const TaskId id = make_dead_letter(queue, 1);
  const Held held(f, f.me, id);
  ASSERT_EQ(queue.close(), Status::ready);
  EXPECT_EQ(queue.try_pop().status(), Status::empty) << "it could yet come back as a task";
  const std::uint32_t announced = f.header().not_empty.announce();
  EXPECT_EQ(held.lease.drop_letter(), Status::ready);
  EXPECT_NE(f.header().not_empty.look(), announced);
  EXPECT_EQ(queue.try_pop().status(), Status::closed);
}

}  // namespace
}  // namespace heddle

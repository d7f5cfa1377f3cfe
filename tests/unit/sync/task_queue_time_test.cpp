// What a queue does by the clock: delays, and the lease timeout. Tests do not wait for it: they make a task
// due, and a lease old.

#include <gtest/gtest.h>

#include <chrono>
#include <set>
#include <vector>

#include "heddle/sync/task_queue.hpp"
#include "support/job.hpp"
#include "support/process.hpp"
#include "support/queue_in_memory.hpp"

namespace heddle {
namespace {

using namespace std::chrono_literals;
using test::Job;

using Fixture = test::QueueInMemory<Job>;
using Queue = TaskQueue<Job>;

constexpr std::uint32_t capacity = 64;
Deadline long_enough() { return Deadline::after(test::patience); }
/// Who waits so long has looked for holders and for what is due at least once.
Deadline after_a_look() { return Deadline::after(30ms); }

TaskId push(Queue& queue, std::uint64_t number, PushOptions how = {}) {
  const Pushed pushed = queue.try_push(Job::of(number), how);
  EXPECT_EQ(pushed.status, Status::ready);
  return pushed.id;
}
std::uint64_t pop(Queue& queue) {
  Task<Job> task = queue.try_pop();
  EXPECT_TRUE(task) << to_string(task.status());
  if (!task) return ~std::uint64_t{0};
  EXPECT_TRUE(task.payload().whole());
  const std::uint64_t number = task.payload().number;
  EXPECT_EQ(task.complete(), Status::ready);
  return number;
}

// ---- delays

TEST(TaskQueueDelays, keep_a_task_until_it_is_due_and_let_others_pass) {
  Fixture f({.capacity = capacity, .delays = true});
  Queue queue = f.open(f.me);
  const TaskId delayed = push(queue, 1, {.delay = 1h});
  push(queue, 2);
  EXPECT_EQ(pop(queue), 2U);
  EXPECT_EQ(queue.try_pop().status(), Status::empty);
  EXPECT_EQ(queue.pop(after_a_look()).status(), Status::timeout);
  EXPECT_EQ(queue.count().waiting, 1U);
  f.make_due(0);
  Task<Job> task = queue.pop(long_enough());
  ASSERT_TRUE(task);
  EXPECT_EQ(task.id(), delayed);
  EXPECT_EQ(task.tries(), 1U);
  ASSERT_EQ(task.complete(), Status::ready);
  EXPECT_TRUE(f.all_free());
}

TEST(TaskQueueDelays, are_never_over_too_early) {
  Fixture f({.capacity = capacity, .delays = true});
  Queue queue = f.open(f.me);
  for (int i = 0; i < 20; ++i) {
    const std::int64_t start = monotonic_ns();
    push(queue, 1, {.delay = 200us});
    Task<Job> task = queue.pop(long_enough());
    ASSERT_TRUE(task);
    EXPECT_GE(monotonic_ns() - start, 200'000);
    ASSERT_EQ(task.fail("not yet", 300us), Status::ready);
    task = queue.pop(long_enough());
    ASSERT_TRUE(task);
    EXPECT_EQ(task.tries(), 2U);
    EXPECT_GE(monotonic_ns() - start, 500'000);
    ASSERT_EQ(task.complete(), Status::ready);
  }
}

TEST(TaskQueueDelays, of_none_or_less_are_none) {
  Fixture f({.capacity = capacity, .delays = true});
  Queue queue = f.open(f.me);
  for (const std::chrono::nanoseconds delay : {0ns, -1ns, std::chrono::nanoseconds::min()}) {
    push(queue, 1, {.delay = delay});
    Task<Job> task = queue.try_pop();
    ASSERT_TRUE(task);
    ASSERT_EQ(task.fail("again", delay), Status::ready);
    EXPECT_EQ(pop(queue), 1U);
  }
}

TEST(TaskQueueDelays, can_last_longer_than_the_clock) {
  Fixture f({.capacity = capacity, .delays = true});
  Queue queue = f.open(f.me);
  push(queue, 1, {.delay = std::chrono::nanoseconds::max()});
  EXPECT_EQ(queue.pop(after_a_look()).status(), Status::timeout);
  push(queue, 2);
  ASSERT_EQ(queue.try_pop().fail("never again", std::chrono::nanoseconds::max()), Status::ready);
  EXPECT_EQ(queue.pop(after_a_look()).status(), Status::timeout);
  EXPECT_EQ(queue.count().waiting, 2U);
}

TEST(TaskQueueDelays, on_a_queue_without_are_refused) {
  Fixture f({.capacity = capacity});
  Queue queue = f.open(f.me);
  EXPECT_EQ(queue.try_push(Job::of(1), {.delay = 1ns}).status, Status::invalid);
  EXPECT_EQ(queue.push(Job::of(1), Deadline::never(), {.delay = 1h}).status, Status::invalid);
  EXPECT_EQ(queue.reserve(Deadline::never(), {.delay = 1h}).status(), Status::invalid);
  EXPECT_TRUE(f.all_free());
  push(queue, 2, {.delay = 0ns});
  ASSERT_EQ(queue.try_pop().fail("has no room", 1h),
            Status::ready);  // says so: of fail only give_back
  EXPECT_EQ(pop(queue), 2U);
}

TEST(TaskQueueDelays, keep_a_closed_queue_from_being_drained) {
  Fixture f({.capacity = capacity, .delays = true});
  Queue queue = f.open(f.me);
  push(queue, 1, {.delay = 1h});
  push(queue, 2);
  ASSERT_EQ(queue.try_pop().fail("later", 1h), Status::ready);
  ASSERT_EQ(queue.close(), Status::ready);
  EXPECT_EQ(queue.pop(after_a_look()).status(), Status::timeout);
  f.make_due(0);
  f.make_due(1);
  for (int i = 0; i < 2; ++i) ASSERT_EQ(queue.pop(long_enough()).complete(), Status::ready);
  EXPECT_EQ(queue.pop().status(), Status::closed);
}

TEST(TaskQueueDelays, of_all_that_fills_the_ring_leave_no_room_and_lose_nothing) {
  Fixture f({.capacity = capacity, .delays = true});
  Queue queue = f.open(f.me);
  for (std::uint64_t i = 0; i < capacity; ++i) push(queue, i, {.delay = 1h});
  EXPECT_EQ(queue.try_push(Job::of(99)).status, Status::full);
  EXPECT_EQ(queue.try_pop().status(), Status::empty);  // and puts them all aside
  EXPECT_EQ(queue.try_push(Job::of(99)).status, Status::full);
  for (std::uint64_t i = 0; i < capacity; ++i) f.make_due(i);
  std::set<std::uint64_t> numbers;
  for (std::uint64_t i = 0; i < capacity; ++i) {
    Task<Job> task = queue.pop(long_enough());
    ASSERT_TRUE(task);
    numbers.insert(task.payload().number);
    ASSERT_EQ(task.complete(), Status::ready);
  }
  EXPECT_EQ(numbers.size(), capacity);
  EXPECT_TRUE(f.all_free());
}

TEST(TaskQueueDelays, are_held_by_each_lane) {
  Fixture f({.capacity = capacity, .lanes = 2, .delays = true});
  Queue queue = f.open(f.me);
  push(queue, 1, {.lane = 0, .delay = 1h});
  push(queue, 2, {.lane = 1});
  push(queue, 3, {.lane = 1, .delay = 1h});
  EXPECT_EQ(pop(queue), 2U);
  EXPECT_EQ(queue.pop(after_a_look()).status(), Status::timeout);
  f.make_due(1, 1);
  Task<Job> task = queue.pop(long_enough());
  ASSERT_TRUE(task);
  EXPECT_EQ(task.payload().number, 3U);
}

// A worker's death asks for no delay, and forgets none that was asked for.
TEST(TaskQueueDelays, of_a_dead_producer_or_worker_are_not_lost) {
  Fixture f({.capacity = capacity, .delays = true});
  Queue queue = f.open(f.other);
  {
    Queue dying = f.open(f.me);
    push(dying, 1, {.delay = 1h});
    push(dying, 2);
    ASSERT_EQ(dying.try_pop().fail("later", 1h), Status::ready);
    push(dying, 3);
    LeaseRing::Lease held;
    ASSERT_EQ(f.ring(f.me).try_lease(held), Status::ready);
    f.kill(f.me);
  }
  Task<Job> task = queue.pop(long_enough());
  ASSERT_TRUE(task);
  EXPECT_EQ(task.payload().number, 3U);
  EXPECT_EQ(queue.pop(after_a_look()).status(), Status::timeout);
}

TEST(TaskQueueDelays, let_the_oldest_waiting_task_be_seen) {
  Fixture f({.capacity = capacity, .lanes = 2, .delays = true});
  Queue queue = f.open(f.me);
  EXPECT_EQ(queue.stats().now.oldest_ns, 0);
  const std::int64_t before = monotonic_ns();
  push(queue, 1, {.lane = 1});
  const std::int64_t between = monotonic_ns();
  push(queue, 2);
  EXPECT_GE(queue.stats().now.oldest_ns, before);
  EXPECT_LE(queue.stats().now.oldest_ns, between);
  EXPECT_EQ(pop(queue), 2U);
  EXPECT_LE(queue.stats().now.oldest_ns, between);
  EXPECT_EQ(pop(queue), 1U);
  EXPECT_EQ(queue.stats().now.oldest_ns, 0);
}

// ---- the lease timeout

constexpr Queue::Options with_timeout{.capacity = capacity, .lease_timeout = 1h};

TEST(TaskQueueLeaseTimeout, takes_a_task_from_a_living_worker_and_gives_it_to_another) {
  Fixture f(with_timeout);
  Queue queue = f.open(f.me), others = f.open(f.other);
  const TaskId id = push(queue, 1);
  Task<Job> slow = queue.try_pop();
  ASSERT_TRUE(slow);
  EXPECT_EQ(others.pop(after_a_look()).status(), Status::timeout) << "it has an hour";
  f.age_lease(0, 1h - 1min);
  EXPECT_EQ(others.pop(after_a_look()).status(), Status::timeout);
  f.age_lease(0, 1min);
  Task<Job> task = others.pop(long_enough());
  ASSERT_TRUE(task);
  EXPECT_EQ(task.id(), id);
  EXPECT_EQ(task.tries(), 2U);
  EXPECT_EQ(others.stats().expired, 1U);
  const LeaseWord before = f.word(0);
  EXPECT_EQ(slow.extend(), Status::lost_lease);
  EXPECT_EQ(slow.complete(), Status::lost_lease);
  EXPECT_EQ(slow.fail("late"), Status::lost_lease);
  EXPECT_EQ(f.word(0), before);
  EXPECT_EQ(task.complete(), Status::ready);
  EXPECT_TRUE(f.all_free());
}

TEST(TaskQueueLeaseTimeout, begins_anew_when_a_worker_extends_it) {
  Fixture f(with_timeout);
  Queue queue = f.open(f.me), others = f.open(f.other);
  push(queue, 1);
  Task<Job> slow = queue.try_pop();
  f.age_lease(0, 2h);
  EXPECT_EQ(slow.extend(), Status::ready);
  EXPECT_TRUE(slow);
  EXPECT_EQ(others.pop(after_a_look()).status(), Status::timeout);
  EXPECT_EQ(slow.complete(), Status::ready);
  EXPECT_EQ(slow.extend(), Status::lost_lease);
}

TEST(TaskQueueLeaseTimeout, begins_anew_with_every_lease) {
  Fixture f(with_timeout);
  Queue queue = f.open(f.me), others = f.open(f.other);
  push(queue, 1);
  Task<Job> task = queue.try_pop();
  f.age_lease(0, 2h);
  ASSERT_EQ(task.release(), Status::ready);
  task = queue.try_pop();
  ASSERT_TRUE(task);
  EXPECT_EQ(others.pop(after_a_look()).status(), Status::timeout);
  EXPECT_EQ(task.complete(), Status::ready);
  // The next task of the slot too.
  for (std::uint64_t i = 0; i < capacity; ++i) {
    push(queue, i);
    task = queue.try_pop();
    if (i + 1 < capacity) {
      ASSERT_EQ(task.complete(), Status::ready);
    }
  }
  EXPECT_EQ(others.pop(after_a_look()).status(), Status::timeout);
}

// ENDING: what its worker writes down, it writes once a try.
TEST(TaskQueueLeaseTimeout, is_not_for_one_who_writes_down_how_the_task_ended) {
  Fixture f(with_timeout);
  Queue queue = f.open(f.me), others = f.open(f.other);
  push(queue, 1);
  LeaseRing ring = f.ring(f.me);
  LeaseRing::Lease lease;
  ASSERT_EQ(ring.try_lease(lease), Status::ready);
  ASSERT_EQ(lease.begin_ending(), Status::ready);
  f.age_lease(0, 1000h);
  EXPECT_EQ(others.pop(after_a_look()).status(), Status::timeout);
  EXPECT_EQ(lease.end_done(), Status::ready);
  EXPECT_TRUE(f.all_free());
}

// Its worker was stopped between the lease and the stamp: the time runs from when somebody saw that.
TEST(TaskQueueLeaseTimeout, runs_also_for_one_who_was_stopped_before_it_said_when_it_began) {
  Fixture f({.capacity = capacity, .lease_timeout = 1ms});
  Queue queue = f.open(f.me), others = f.open(f.other);
  push(queue, 1);
  LeaseRing ring = f.ring(f.me);
  LeaseRing::Lease lease;
  ASSERT_EQ(ring.try_lease(lease), Status::ready);
  f.note(0).leased_at.store(0, relaxed);
  Task<Job> task = others.pop(long_enough());
  ASSERT_TRUE(task);
  EXPECT_EQ(task.tries(), 2U);
}

// The stamp of one who has lost its lease may come late: it names another lease than that which it meets.
TEST(TaskQueueLeaseTimeout, is_not_shortened_by_the_late_stamp_of_another_lease) {
  Fixture f(with_timeout);
  Queue queue = f.open(f.me), others = f.open(f.other), third = f.open(f.third);
  push(queue, 1);
  Task<Job> slow = queue.try_pop();
  f.age_lease(0, 2h);
  const std::uint64_t late = f.note(0).leased_at.load(relaxed);
  Task<Job> task = others.pop(long_enough());
  ASSERT_TRUE(task);
  f.note(0).leased_at.store(late, relaxed);
  EXPECT_EQ(third.pop(after_a_look()).status(), Status::timeout);
  EXPECT_EQ(task.complete(), Status::ready);
}

TEST(TaskQueueLeaseTimeout, makes_a_dead_letter_of_a_last_try) {
  Fixture f({.capacity = capacity, .max_tries = 1, .lease_timeout = 1h});
  Queue queue = f.open(f.me), others = f.open(f.other);
  const TaskId id = push(queue, 1);
  Task<Job> slow = queue.try_pop();
  f.age_lease(0, 2h);
  EXPECT_EQ(others.pop(after_a_look()).status(), Status::timeout);
  ASSERT_EQ(others.dead_letters().size(), 1U);
  EXPECT_EQ(others.dead_letters()[0].id, id);
  EXPECT_EQ(others.dead_letters()[0].reason, "") << "it was too late, and said nothing";
  EXPECT_EQ(others.stats().expired, 1U);
  EXPECT_EQ(others.stats().died, 1U);
  EXPECT_EQ(slow.complete(), Status::lost_lease);
}

TEST(TaskQueueLeaseTimeout, frees_a_closed_queue_of_a_worker_who_never_ends) {
  Fixture f(with_timeout);
  Queue queue = f.open(f.me), others = f.open(f.other);
  push(queue, 1);
  const Task<Job> slow = queue.try_pop();
  ASSERT_EQ(others.close(), Status::ready);
  EXPECT_EQ(others.pop(after_a_look()).status(), Status::timeout);
  f.age_lease(0, 2h);
  ASSERT_EQ(others.pop(long_enough()).complete(), Status::ready);
  EXPECT_EQ(others.pop().status(), Status::closed);
}

TEST(TaskQueueLeaseTimeout, makes_room_for_a_producer_when_leases_fill_the_ring) {
  Fixture f({.capacity = capacity, .max_tries = 1, .lease_timeout = 1h});
  Queue queue = f.open(f.me), producer = f.open(f.other);
  std::vector<Task<Job>> held;
  for (std::uint64_t i = 0; i < capacity; ++i) {
    push(queue, i);
    held.push_back(queue.try_pop());
  }
  ASSERT_EQ(producer.push(Job::of(99), Deadline::after(2ms)).status, Status::timeout);
  f.age_lease(5, 2h);
  ASSERT_EQ(producer.push(Job::of(99), Deadline::after(30ms)).status, Status::timeout);
  ASSERT_EQ(producer.dead_letters().size(), 1U) << "a producer that waits looks, too";
  ASSERT_EQ(producer.drop(producer.dead_letters()[0].id), Status::ready);
  EXPECT_EQ(producer.push(Job::of(99), long_enough()).status, Status::ready);
}

TEST(TaskQueueLeaseTimeout, on_a_queue_without_makes_extend_do_nothing) {
  Fixture f({.capacity = capacity});
  Queue queue = f.open(f.me);
  push(queue, 1);
  Task<Job> task = queue.try_pop();
  EXPECT_EQ(task.extend(), Status::ready);
  EXPECT_EQ(task.complete(), Status::ready);
  EXPECT_EQ(task.extend(), Status::lost_lease);
}

}  // namespace
}  // namespace heddle

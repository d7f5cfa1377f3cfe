// Lanes, and queues that are closed and opened again.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <set>
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
using test::last_cycle;

using Fixture = test::QueueInMemory<Job>;
using Queue = TaskQueue<Job>;

constexpr std::uint32_t capacity = 64;
Deadline long_enough() { return Deadline::after(test::patience); }

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

// ---- lanes

TEST(TaskQueueLanes, hand_out_lane_0_first_and_each_lane_in_order) {
  Fixture f({.capacity = capacity, .lanes = 3});
  Queue producer = f.open(f.me), consumer = f.open(f.other);
  for (std::uint64_t i = 0; i < 30; ++i) {
    push(producer, i, {.lane = static_cast<std::uint32_t>(2 - i % 3)});
  }
  for (std::uint64_t lane = 0; lane < 3; ++lane) {
    for (std::uint64_t i = 0; i < 10; ++i) EXPECT_EQ(pop(consumer), i * 3 + 2 - lane);
  }
  EXPECT_EQ(consumer.try_pop().status(), Status::empty);
  push(producer, 1, {.lane = 2});
  push(producer, 2, {.lane = 1});
  EXPECT_EQ(pop(consumer), 2U);
  push(producer, 3, {.lane = 0});
  EXPECT_EQ(pop(consumer), 3U);
  EXPECT_EQ(pop(consumer), 1U);
  EXPECT_TRUE(f.all_free());
}

TEST(TaskQueueLanes, give_each_push_an_id_of_its_own_that_its_task_has_too) {
  for (const std::uint32_t lanes : {1U, 2U, 5U, 8U}) {
    Fixture f({.capacity = capacity, .lanes = lanes});
    Queue queue = f.open(f.me);
    std::set<TaskId> ids;
    for (std::uint64_t i = 0; i < 5 * capacity; ++i) {
      const TaskId id = push(queue, i, {.lane = static_cast<std::uint32_t>(i * 3 % lanes)});
      EXPECT_TRUE(ids.insert(id).second) << id << " was given out before";
      EXPECT_EQ(id % lanes, i * 3 % lanes);
      Task<Job> task = queue.try_pop();
      EXPECT_EQ(task.id(), id);
      ASSERT_EQ(task.complete(), Status::ready);
    }
  }
}

TEST(TaskQueueLanes, give_ids_that_stay_apart_where_cycles_wrap) {
  Fixture f({.capacity = capacity, .lanes = 2}, last_cycle - 1);
  Queue queue = f.open(f.me);
  std::set<TaskId> ids;
  for (std::uint64_t i = 0; i < 4 * capacity; ++i) {
    const TaskId id = push(queue, i, {.lane = 1});
    EXPECT_TRUE(ids.insert(id).second);
    Task<Job> task = queue.try_pop();
    EXPECT_EQ(task.id(), id);
    ASSERT_EQ(task.complete(), Status::ready);
  }
}

TEST(TaskQueueLanes, keep_a_tasks_id_at_every_try) {
  Fixture f({.capacity = capacity, .lanes = 2});
  Queue queue = f.open(f.me);
  const TaskId id = push(queue, 1, {.lane = 1});
  for (std::uint64_t i = 1; i <= 5; ++i) {
    Task<Job> task = queue.try_pop();
    EXPECT_EQ(task.id(), id);
    EXPECT_EQ(task.tries(), i);
    ASSERT_EQ(task.release(), Status::ready);
  }
}

TEST(TaskQueueLanes, are_full_one_by_one) {
  Fixture f({.capacity = capacity, .lanes = 2});
  Queue queue = f.open(f.me);
  for (std::uint64_t i = 0; i < capacity; ++i) push(queue, i, {.lane = 1});
  EXPECT_EQ(queue.try_push(Job::of(0), {.lane = 1}).status, Status::full);
  EXPECT_EQ(queue.push(Job::of(0), Deadline::after(1ms), {.lane = 1}).status, Status::timeout);
  push(queue, 99);
  EXPECT_EQ(pop(queue), 99U);
  EXPECT_EQ(pop(queue), 0U);
  push(queue, 1, {.lane = 1});
}

TEST(TaskQueueLanes, that_are_not_there_are_refused) {
  for (const std::uint32_t lanes : {1U, 3U}) {
    Fixture f({.capacity = capacity, .lanes = lanes});
    Queue queue = f.open(f.me);
    for (const std::uint32_t bad : {lanes, lanes + 1, ~0U}) {
      EXPECT_EQ(queue.try_push(Job::of(0), {.lane = bad}).status, Status::invalid);
      EXPECT_EQ(queue.push(Job::of(0), Deadline::never(), {.lane = bad}).status, Status::invalid);
      EXPECT_EQ(queue.reserve(Deadline::never(), {.lane = bad}).status(), Status::invalid);
    }
    EXPECT_EQ(queue.stats().pushed, 0U);
    EXPECT_TRUE(f.all_free());
  }
}

TEST(TaskQueueLanes, wake_consumers_whichever_a_push_goes_to) {
  Fixture f({.capacity = capacity, .lanes = 3});
  Queue queue = f.open(f.me);
  std::thread consumer([&, pops = f.open(f.other)]() mutable {
    pops.wait_strategy(WaitStrategy::sleep);
    for (int i = 0; i < 300; ++i) ASSERT_EQ(pops.pop(long_enough()).complete(), Status::ready);
  });
  for (std::uint32_t i = 0; i < 300; ++i) {
    ASSERT_TRUE(queue.push(Job::of(i), long_enough(), {.lane = i % 3}));
  }
  consumer.join();
}

// What counts is the wake, not the look that a sleeper takes every 10 ms.
TEST(TaskQueueLanes, change_the_event_that_all_consumers_sleep_on) {
  Fixture f({.capacity = capacity, .lanes = 2});
  Queue queue = f.open(f.me);
  Event& event = f.header(0).not_empty;
  const auto changes = [&](auto&& act) {
    const std::uint32_t announced = event.announce();
    act();
    return event.look() != announced;
  };
  EXPECT_TRUE(changes([&] { push(queue, 1, {.lane = 1}); }));
  Task<Job> task = queue.try_pop();
  EXPECT_TRUE(changes([&] { ASSERT_EQ(task.release(), Status::ready); }));
  task = queue.try_pop();
  EXPECT_TRUE(changes([&] { ASSERT_EQ(queue.close(), Status::ready); }));
  EXPECT_TRUE(changes([&] { ASSERT_EQ(task.complete(), Status::ready); }));
}

TEST(TaskQueueLanes, that_are_closed_are_drained_all_together) {
  Fixture f({.capacity = capacity, .lanes = 3});
  Queue queue = f.open(f.me), late = f.open(f.other);
  for (std::uint32_t lane = 0; lane < 3; ++lane) push(queue, lane, {.lane = lane});
  ASSERT_EQ(queue.close(), Status::ready);
  EXPECT_TRUE(queue.is_closed());
  for (std::uint32_t lane = 0; lane < 3; ++lane) {
    EXPECT_EQ(queue.try_push(Job::of(0), {.lane = lane}).status, Status::closed);
  }
  EXPECT_EQ(pop(queue), 0U);
  EXPECT_EQ(pop(queue), 1U);
  Task<Job> last = queue.try_pop();
  ASSERT_TRUE(last);
  EXPECT_EQ(late.try_pop().status(), Status::empty) << "lane 2 is not done yet";
  ASSERT_EQ(last.complete(), Status::ready);
  EXPECT_EQ(late.try_pop().status(), Status::closed);
  EXPECT_EQ(queue.pop().status(), Status::closed);
}

TEST(TaskQueueLanes, lose_no_task_between_many_threads) {
  constexpr std::uint64_t each = 10'000;
  Fixture f({.capacity = capacity, .lanes = 2});
  const Queue original = f.open(f.me);
  std::vector<std::atomic<int>> done(2 * each);
  std::vector<std::thread> threads;
  for (std::uint32_t lane = 0; lane < 2; ++lane) {
    threads.emplace_back([&, lane, queue = original]() mutable {
      for (std::uint64_t i = 0; i < each; ++i) {
        const Pushed pushed = queue.push(Job::of(lane * each + i), long_enough(), {.lane = lane});
        ASSERT_EQ(pushed.status, Status::ready);
      }
    });
    threads.emplace_back([&, queue = original]() mutable {
      std::array<std::uint64_t, 2> last{};
      while (Task<Job> task = queue.pop()) {
        const std::uint64_t number = task.payload().number;
        ++done[number];
        EXPECT_EQ(task.id() % 2, number / each) << "of another lane than it was pushed to";
        EXPECT_GE(task.id() + 1, last[number / each]) << "one consumer sees a lane in order";
        last[number / each] = task.id();
        ASSERT_EQ(task.complete(), Status::ready);
      }
    });
  }
  threads[0].join();
  threads[2].join();
  Queue closer = original;
  ASSERT_EQ(closer.close(), Status::ready);
  threads[1].join();
  threads[3].join();
  for (const auto& count : done) ASSERT_EQ(count, 1);
  EXPECT_TRUE(f.all_free());
}

TEST(TaskQueueLanes, of_a_dead_worker_are_all_recovered) {
  Fixture f({.capacity = capacity, .lanes = 3});
  Queue survivor = f.open(f.other);
  std::vector<LeaseRing::Lease> held(3);
  for (std::uint32_t lane = 0; lane < 3; ++lane) {
    push(survivor, lane, {.lane = lane});
    ASSERT_EQ(f.ring(f.me, lane).try_lease(held[lane]), Status::ready);
  }
  f.kill(f.me);
  std::set<std::uint64_t> numbers;
  for (int i = 0; i < 3; ++i) {
    Task<Job> task = survivor.pop(long_enough());
    ASSERT_TRUE(task);
    EXPECT_EQ(task.tries(), 2U);
    numbers.insert(task.payload().number);
    ASSERT_EQ(task.complete(), Status::ready);
  }
  EXPECT_EQ(numbers.size(), 3U);
  EXPECT_EQ(survivor.stats().recovered, 3U);
  EXPECT_TRUE(f.all_free());
}

// The word that says so is lane 0's: it is the last to change, so a closer that died on its way has not
// closed the queue.
TEST(TaskQueueLanes, that_were_half_closed_or_half_reopened_are_as_lane_0_says) {
  Fixture f({.capacity = capacity, .lanes = 2});
  Queue queue = f.open(f.me);
  ASSERT_EQ(f.ring(f.other, 1).close(), Status::ready);  // as far as a dying closer came
  EXPECT_FALSE(queue.is_closed());
  EXPECT_FALSE(queue.stats().closed);
  push(queue, 1);
  EXPECT_EQ(queue.try_push(Job::of(0), {.lane = 1}).status, Status::closed);
  ASSERT_EQ(queue.close(), Status::ready);
  EXPECT_EQ(pop(queue), 1U);
  EXPECT_EQ(queue.try_pop().status(), Status::closed);
  ASSERT_EQ(f.ring(f.other, 1).reopen(), Status::ready);
  EXPECT_TRUE(queue.is_closed());
  ASSERT_EQ(queue.reopen(), Status::ready);
  push(queue, 2, {.lane = 1});
  EXPECT_EQ(pop(queue), 2U);
}

// ---- reopening

TEST(TaskQueueReopen, takes_pushes_again_in_every_state) {
  enum class Was { empty, waiting, leased, drained };
  for (const Was was : {Was::empty, Was::waiting, Was::leased, Was::drained}) {
    for (const std::uint32_t lanes : {1U, 2U}) {
      Fixture f({.capacity = capacity, .lanes = lanes});
      Queue queue = f.open(f.me), late = f.open(f.other);
      const std::uint32_t lane = lanes - 1;
      if (was != Was::empty) push(queue, 1, {.lane = lane});
      Task<Job> held;
      if (was == Was::leased) held = queue.try_pop();
      for (int round = 0; round < 3; ++round) {
        ASSERT_EQ(queue.close(), Status::ready);
        ASSERT_EQ(queue.close(), Status::ready);
        EXPECT_TRUE(late.is_closed());
        EXPECT_EQ(late.try_push(Job::of(0), {.lane = lane}).status, Status::closed);
        if (was == Was::drained) {
          while (queue.try_pop().complete() == Status::ready) {
          }
          ASSERT_EQ(queue.try_pop().status(), Status::closed);
          ASSERT_EQ(late.try_pop().status(), Status::closed);
        }
        ASSERT_EQ(queue.reopen(), Status::ready);
        ASSERT_EQ(queue.reopen(), Status::ready);
        EXPECT_FALSE(late.is_closed());
        push(late, 2, {.lane = lane});
        if (was == Was::waiting && round == 0) {
          EXPECT_EQ(pop(queue), 1U);
        }
        EXPECT_EQ(pop(queue), 2U);
        EXPECT_EQ(late.try_pop().status(), Status::empty);
      }
      if (held) {
        EXPECT_EQ(held.complete(), Status::ready);
      }
      EXPECT_TRUE(f.all_free());
    }
  }
}

TEST(TaskQueueReopen, of_an_open_queue_changes_nothing) {
  Fixture f({.capacity = capacity});
  Queue queue = f.open(f.me);
  const std::uint32_t before = f.header().phase.load(relaxed);
  ASSERT_EQ(queue.reopen(), Status::ready);
  EXPECT_EQ(f.header().phase.load(relaxed), before);
}

// QUEUE-5: what a handle knows of the slots that it has found empty for good ends with the phase.
TEST(TaskQueueReopen, is_noticed_by_one_who_was_draining_before) {
  Fixture f({.capacity = capacity});
  Queue queue = f.open(f.me), drainer = f.open(f.other);
  for (std::uint64_t i = 0; i < 10; ++i) push(queue, i);
  std::vector<Task<Job>> held;
  for (int i = 0; i < 10; ++i) held.push_back(queue.try_pop());
  for (int i = 0; i < 8; ++i) ASSERT_EQ(held[i].complete(), Status::ready);
  ASSERT_EQ(queue.close(), Status::ready);
  ASSERT_EQ(drainer.try_pop().status(), Status::empty);  // slots 0 to 7 are empty, it has found
  ASSERT_EQ(queue.reopen(), Status::ready);
  ASSERT_EQ(held[8].complete(), Status::ready);
  ASSERT_EQ(held[9].complete(), Status::ready);
  for (std::uint64_t i = 10; i < capacity; ++i) {
    push(queue, i);
    EXPECT_EQ(pop(queue), i);
  }
  push(queue, 64);  // in slot 0 again
  Task<Job> leased = queue.try_pop();
  ASSERT_EQ(queue.close(), Status::ready);
  EXPECT_EQ(drainer.try_pop().status(), Status::empty);
  ASSERT_EQ(leased.complete(), Status::ready);
  EXPECT_EQ(drainer.try_pop().status(), Status::closed);
}

TEST(TaskQueueReopen, lets_producers_and_consumers_of_before_go_on) {
  Fixture f({.capacity = capacity});
  Queue queue = f.open(f.me);
  for (std::uint64_t round = 0; round < 200; ++round) {
    ASSERT_EQ(queue.reopen(), Status::ready);
    std::atomic<std::uint64_t> pushed{0}, popped{0};
    std::thread producer([&, pushes = f.open(f.other)]() mutable {
      while (pushes.push(Job::of(0)).status == Status::ready) ++pushed;
    });
    std::thread consumer([&, pops = f.open(f.third)]() mutable {
      while (Task<Job> task = pops.pop()) {
        ++popped;
        ASSERT_EQ(task.complete(), Status::ready);
      }
    });
    while (pushed.load() < 20) sched_yield();
    ASSERT_EQ(queue.close(), Status::ready);
    producer.join();
    consumer.join();
    ASSERT_EQ(pushed, popped);
    ASSERT_TRUE(f.all_free());
  }
}

TEST(TaskQueueReopen, is_not_for_a_forked_child) {
  Fixture f({.capacity = capacity});
  FakePeers child(f.table, 0);
  Queue queue = f.open(child);
  ASSERT_EQ(queue.close(), Status::ready);
  child.forked();
  EXPECT_EQ(queue.reopen(), Status::closed);
  EXPECT_TRUE(queue.is_closed());
}

}  // namespace
}  // namespace heddle

// What tasks come to: TaskQueue::result and the result table below it.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "heddle/sync/task_queue.hpp"
#include "support/allocations.hpp"
#include "support/job.hpp"
#include "support/process.hpp"
#include "support/queue_in_memory.hpp"
#include "support/sample.hpp"
#include "support/value.hpp"

namespace heddle {
namespace {

using namespace std::chrono_literals;
using test::FakePeers;
using test::Job;
using test::last_cycle;
using test::Sample;
using test::Value;

using Fixture = test::QueueInMemory<Job>;
using Queue = TaskQueue<Job>;

constexpr std::uint32_t capacity = 64;
constexpr Queue::Options with_results{.capacity = capacity, .result_bytes = sizeof(Value)};
constexpr Queue::Options with_dead_letters{
    .capacity = capacity, .max_tries = 1, .result_bytes = sizeof(Value)};

TaskId push(Queue& queue, std::uint64_t number, std::uint32_t lane = 0) {
  const Pushed pushed = queue.try_push(Job::of(number), {.lane = lane});
  EXPECT_EQ(pushed.status, Status::ready);
  return pushed.id;
}
TaskId push_and_complete(Queue& queue, std::uint64_t number, std::uint32_t lane = 0) {
  const TaskId id = push(queue, number, lane);
  Task<Job> task = queue.try_pop();
  EXPECT_EQ(task.id(), id);
  EXPECT_EQ(task.complete(Value::of(number)), Status::ready);
  return id;
}
// What is there now, without waiting.
Status look(Queue& queue, TaskId id) {
  Value value{};
  return queue.result(id, value, Deadline::now());
}
std::uint64_t number_of(Queue& queue, TaskId id) {
  Value value{};
  EXPECT_EQ(queue.result(id, value, Deadline::now()), Status::ready);
  EXPECT_TRUE(value.whole());
  return value.number;
}

// ---- a result comes back

TEST(TaskQueueResults, of_each_task_come_back_by_its_id) {
  Fixture f(with_results);
  Queue producer = f.open(f.me), worker = f.open(f.other);
  std::vector<TaskId> ids;
  for (std::uint64_t i = 0; i < 10; ++i) ids.push_back(push(producer, i));
  EXPECT_EQ(look(producer, ids[3]), Status::timeout);
  for (std::uint64_t i = 0; i < 10; ++i) {
    Task<Job> task = worker.try_pop();
    ASSERT_EQ(task.id(), ids[i]);
    ASSERT_EQ(task.complete(Value::of(task.payload().number * 10)), Status::ready);
    EXPECT_FALSE(task);
  }
  for (std::uint64_t i = 0; i < 10; ++i) EXPECT_EQ(number_of(producer, ids[i]), i * 10);
  EXPECT_EQ(number_of(worker, ids[5]), 50U) << "reading does not take it away";
  EXPECT_TRUE(f.all_free());
}

TEST(TaskQueueResults, can_be_shorter_than_the_longest_and_say_their_length) {
  Fixture f({.capacity = capacity, .result_bytes = 13});
  Queue queue = f.open(f.me);
  const std::string longest = "thirteen long";
  for (std::size_t length = 0; length <= longest.size(); ++length) {
    const TaskId id = push(queue, length);
    ASSERT_EQ(queue.try_pop().complete(std::as_bytes(std::span(longest).first(length))),
              Status::ready);
    std::array<char, 20> text{};
    std::size_t got = 99;
    ASSERT_EQ(queue.result(id, std::as_writable_bytes(std::span(text)), got, Deadline::now()),
              Status::ready);
    EXPECT_EQ(got, length);
    EXPECT_EQ(std::string(text.data()), longest.substr(0, length));
  }
}

TEST(TaskQueueResults, into_too_little_room_come_in_part_and_say_how_long_they_are) {
  Fixture f(with_results);
  Queue queue = f.open(f.me);
  const TaskId id = push_and_complete(queue, 7);
  std::array<std::byte, 9> room{};
  room[8] = std::byte{0x5a};
  std::size_t length = 0;
  ASSERT_EQ(queue.result(id, std::span(room).first(8), length, Deadline::now()), Status::ready);
  EXPECT_EQ(length, sizeof(Value));
  std::uint64_t number = 0;
  std::memcpy(&number, room.data(), sizeof number);
  EXPECT_EQ(number, 7U);
  EXPECT_EQ(room[8], std::byte{0x5a}) << "written past the end";
  ASSERT_EQ(queue.result(id, {}, length, Deadline::now()), Status::ready);
  EXPECT_EQ(length, sizeof(Value));
}

TEST(TaskQueueResults, can_be_nothing_but_that_the_task_is_done) {
  Fixture f({.capacity = capacity, .results = capacity});
  Queue queue = f.open(f.me);
  const TaskId id = push(queue, 1);
  std::size_t length = 99;
  EXPECT_EQ(queue.result(id, {}, length, Deadline::now()), Status::timeout);
  Task<Job> task = queue.try_pop();
  EXPECT_EQ(task.complete(std::as_bytes(std::span("x", 1))), Status::invalid);
  ASSERT_EQ(task.complete(), Status::ready);
  EXPECT_EQ(queue.result(id, {}, length, Deadline::now()), Status::ready);
  EXPECT_EQ(length, 0U);
}

TEST(TaskQueueResults, of_a_task_completed_without_one_are_empty) {
  Fixture f(with_results);
  Queue queue = f.open(f.me);
  const TaskId id = push(queue, 1);
  ASSERT_EQ(queue.try_pop().complete(), Status::ready);
  std::size_t length = 99;
  EXPECT_EQ(queue.result(id, {}, length, Deadline::now()), Status::ready);
  EXPECT_EQ(length, 0U);
}

TEST(TaskQueueResults, of_every_lane_are_told_apart) {
  Fixture f({.capacity = capacity, .lanes = 3, .result_bytes = sizeof(Value)});
  Queue queue = f.open(f.me);
  std::vector<TaskId> ids;
  for (std::uint64_t i = 0; i < 30; ++i) {
    ids.push_back(push_and_complete(queue, i, static_cast<std::uint32_t>(i * 7 % 3)));
  }
  for (std::uint64_t i = 0; i < 30; ++i) EXPECT_EQ(number_of(queue, ids[i]), i);
}

// ---- waiting

TEST(TaskQueueResults, wake_those_who_sleep_for_them) {
  Fixture f(with_results);
  Queue queue = f.open(f.me), worker = f.open(f.other);
  for (std::uint64_t i = 0; i < 50; ++i) {
    const TaskId id = push(queue, i);
    std::thread waiter([&, waits = f.open(f.third)]() mutable {
      waits.wait_strategy(WaitStrategy::sleep);
      Value value{};
      EXPECT_EQ(waits.result(id, value, Deadline::after(test::patience)), Status::ready);
      EXPECT_EQ(value.number, i);
    });
    ASSERT_EQ(worker.pop().complete(Value::of(i)), Status::ready);
    waiter.join();
  }
}

// What counts is the wake, not the look that a sleeper takes every 10 ms.
TEST(TaskQueueResults, change_the_event_that_their_waiters_sleep_on) {
  Fixture f(with_results);
  Queue queue = f.open(f.me);
  const TaskId id = push(queue, 1);
  QueueCore core(f.block.span(), f.shape, f.me);
  Event& event = core.results_of(0).event(id);
  const std::uint32_t announced = event.announce();
  ASSERT_EQ(queue.try_pop().complete(Value::of(1)), Status::ready);
  EXPECT_NE(event.look(), announced);
}

TEST(TaskQueueResults, that_do_not_come_end_the_wait_at_its_deadline) {
  Fixture f(with_results);
  Queue queue = f.open(f.me);
  const TaskId id = push(queue, 1);
  Value value{};
  EXPECT_EQ(queue.result(id, value, Deadline::after(3ms)), Status::timeout);
  const Task<Job> leased = queue.try_pop();
  EXPECT_EQ(queue.result(id, value, Deadline::after(3ms)), Status::timeout);
}

TEST(TaskQueueResults, come_although_the_queue_was_closed_and_drained) {
  Fixture f(with_results);
  Queue queue = f.open(f.me);
  const TaskId id = push(queue, 4);
  ASSERT_EQ(queue.close(), Status::ready);
  ASSERT_EQ(queue.try_pop().complete(Value::of(4)), Status::ready);
  ASSERT_EQ(queue.try_pop().status(), Status::closed);
  EXPECT_EQ(number_of(queue, id), 4U);
}

TEST(TaskQueueResults, are_not_for_a_forked_child) {
  Fixture f(with_results);
  FakePeers child(f.table, 0);
  Queue queue = f.open(child);
  const TaskId id = push_and_complete(queue, 4);
  child.forked();
  EXPECT_EQ(look(queue, id), Status::closed);
}

// ---- bad input

TEST(TaskQueueResults, that_are_too_large_are_refused_and_the_task_stays_ours) {
  Fixture f(with_results);
  Queue queue = f.open(f.me);
  const TaskId id = push(queue, 1);
  Task<Job> task = queue.try_pop();
  EXPECT_EQ(task.complete(Job::of(1)), Status::invalid);
  EXPECT_TRUE(task);
  EXPECT_EQ(f.word(0).state(), LeaseState::leased);
  EXPECT_EQ(look(queue, id), Status::timeout);
  EXPECT_EQ(task.complete(Value::of(1)), Status::ready);
  EXPECT_EQ(number_of(queue, id), 1U);
}

TEST(TaskQueueResults, on_a_queue_that_keeps_none_are_refused_and_the_task_stays_ours) {
  Fixture f({.capacity = capacity});
  Queue queue = f.open(f.me);
  const TaskId id = push(queue, 1);
  Task<Job> task = queue.try_pop();
  EXPECT_EQ(task.complete(Value::of(1)), Status::invalid);
  EXPECT_TRUE(task);
  EXPECT_EQ(look(queue, id), Status::invalid);
  EXPECT_EQ(task.complete(), Status::ready);
  EXPECT_EQ(look(queue, id), Status::invalid);
}

TEST(TaskQueueResults, of_another_size_than_the_type_asked_for_are_invalid_and_leave_it_alone) {
  Fixture f(with_results);
  Queue queue = f.open(f.me);
  const TaskId id = push_and_complete(queue, 9);
  std::uint64_t smaller = 5;
  EXPECT_EQ(queue.result(id, smaller, Deadline::now()), Status::invalid);
  EXPECT_EQ(smaller, 5U);
  Job larger = Job::of(5);
  EXPECT_EQ(queue.result(id, larger, Deadline::now()), Status::invalid);
  EXPECT_EQ(larger.number, 5U);
  EXPECT_TRUE(larger.whole());
  EXPECT_EQ(number_of(queue, id), 9U);
}

TEST(TaskQueueResults, of_tasks_that_nobody_has_pushed_are_invalid_and_not_waited_for) {
  Fixture f({.capacity = capacity, .lanes = 2, .result_bytes = sizeof(Value)});
  Queue queue = f.open(f.me);
  for (const TaskId id : {0, 1, 2, 127, 128, 1000}) EXPECT_EQ(look(queue, id), Status::invalid);
  const TaskId pushed = push(queue, 0);
  Value value{};
  // Deadline::never: who waited for them would wait for ever.
  for (const TaskId id : {pushed + 1, pushed + 2, pushed + 2 * capacity}) {
    EXPECT_EQ(queue.result(id, value), Status::invalid) << id;
  }
  // No ticket is so large.
  for (const TaskId id :
       {~TaskId{0}, ~TaskId{0} - 1, TaskId{1} << 63, (last_cycle + 1) * 2 * capacity}) {
    EXPECT_EQ(queue.result(id, value), Status::invalid) << id;
  }
  // These could be of the time before the cycles wrapped: they were, and are no more.
  for (const TaskId id : {(last_cycle + 1) * 2 * capacity - 2, last_cycle * 2 * capacity}) {
    EXPECT_EQ(queue.result(id, value), Status::expired) << id;
  }
}

TEST(TaskQueueResults, are_invalid_as_long_as_the_push_is_not_begun_and_waited_for_from_then_on) {
  Fixture f(with_results);
  Queue queue = f.open(f.me);
  LeaseRing ring = f.ring(f.other);
  EXPECT_EQ(look(queue, 0), Status::invalid);
  LeaseRing::Reservation slot;
  ASSERT_EQ(ring.try_reserve(slot), Status::ready);
  EXPECT_EQ(look(queue, 0), Status::timeout);
  ASSERT_EQ(slot.commit(), Status::ready);
  EXPECT_EQ(look(queue, 0), Status::timeout);
}

TEST(TaskQueueResults, of_a_push_that_was_taken_back_do_not_keep_anybody_waiting) {
  Fixture f(with_results);
  Queue queue = f.open(f.me);
  queue.reserve().abandon();
  Value value{};
  EXPECT_EQ(queue.result(0, value), Status::expired);
}

// ---- laps

TEST(TaskQueueResults, stay_until_as_many_later_tasks_were_done_and_then_are_expired) {
  for (const std::uint32_t results : {1U, 8U, 64U, 256U}) {
    Fixture f({.capacity = capacity, .result_bytes = sizeof(Value), .results = results});
    Queue queue = f.open(f.me);
    const TaskId first = push_and_complete(queue, 1000);
    for (std::uint64_t i = 1; i < results; ++i) {
      push_and_complete(queue, i);
      ASSERT_EQ(number_of(queue, first), 1000U) << i << " of " << results;
    }
    const TaskId later = push(queue, 1);
    EXPECT_EQ(number_of(queue, first), 1000U) << "it is not done yet";
    ASSERT_EQ(queue.try_pop().complete(Value::of(1)), Status::ready);
    Value value{};
    EXPECT_EQ(queue.result(first, value), Status::expired);
    EXPECT_EQ(number_of(queue, later), 1U);
  }
}

TEST(TaskQueueResults, that_nobody_has_read_are_counted_when_they_go) {
  Fixture f({.capacity = capacity, .result_bytes = sizeof(Value), .results = 4});
  Queue queue = f.open(f.me);
  std::vector<TaskId> ids;
  for (std::uint64_t i = 0; i < 4; ++i) ids.push_back(push_and_complete(queue, i));
  EXPECT_EQ(number_of(queue, ids[1]), 1U);
  EXPECT_EQ(number_of(queue, ids[2]), 2U);
  EXPECT_EQ(queue.stats().results_expired, 0U);
  for (std::uint64_t i = 0; i < 4; ++i) push_and_complete(queue, i);
  EXPECT_EQ(queue.stats().results_expired, 2U);
}

// RESULT-1: done twice, because its worker died after it had published and before it ended.
TEST(TaskQueueResults, of_a_task_that_is_done_again_stay_the_first) {
  Fixture f({.capacity = capacity, .result_bytes = sizeof(Value), .results = 4});
  Queue queue = f.open(f.other);
  const TaskId id = push(queue, 1);
  LeaseRing dying = f.ring(f.me);
  LeaseRing::Lease lease;
  ASSERT_EQ(dying.try_lease(lease), Status::ready);
  ASSERT_EQ(lease.begin_ending(), Status::ready);
  QueueCore core(f.block.span(), f.shape, f.me);
  const std::array first{Value::of(11)};
  core.results_of(0).put(lease.ticket(), lease.tries(), lease.owner(),
                         std::as_bytes(std::span(first)));
  EXPECT_EQ(number_of(queue, id), 11U) << "it is there before the task has ended";
  f.kill(f.me);
  Task<Job> again = queue.pop(Deadline::after(test::patience));
  ASSERT_TRUE(again);
  EXPECT_EQ(again.tries(), 2U);
  ASSERT_EQ(again.complete(Value::of(22)), Status::ready);
  EXPECT_EQ(number_of(queue, id), 11U);
  EXPECT_TRUE(f.all_free());
}

// On death of who writes: the half of it is never seen, and the next one writes it anew.
TEST(TaskQueueResults, half_written_by_a_dead_worker_are_never_seen) {
  Fixture f(with_results);
  Queue queue = f.open(f.other);
  const TaskId id = push(queue, 1);
  LeaseRing dying = f.ring(f.me);
  LeaseRing::Lease lease;
  ASSERT_EQ(dying.try_lease(lease), Status::ready);
  ASSERT_EQ(lease.begin_ending(), Status::ready);
  // {lap 1, grant 1, owner, writing}, and the first words of a result
  auto* entry = f.block.span().data() + f.shape.ring.bytes();
  const std::uint64_t writing = std::uint64_t{1} << 24 | 1 << 13 | f.me.self().bits() << 3 | 1;
  std::memcpy(entry, &writing, sizeof writing);
  std::memset(entry + 16, 0xee, sizeof(Value) / 2);
  EXPECT_EQ(look(queue, id), Status::timeout);
  f.kill(f.me);
  Task<Job> again = queue.pop(Deadline::after(test::patience));
  ASSERT_TRUE(again);
  ASSERT_EQ(again.complete(Value::of(5)), Status::ready);
  EXPECT_EQ(number_of(queue, id), 5U);
}

// RESULT-3: the entry is being written for an earlier lap, by one that stands still. Who waits for the
// result that has no room hears it, whatever becomes of the other.
TEST(TaskQueueResults, that_find_their_entry_being_written_are_given_up_and_nobody_waits_for_them) {
  Fixture f({.capacity = capacity, .result_bytes = sizeof(Value), .results = 4});
  Queue queue = f.open(f.me);
  for (std::uint64_t i = 0; i < 4; ++i) push_and_complete(queue, i);
  const TaskId later = push(queue, 4);
  auto* entry = f.block.span().data() + f.shape.ring.bytes();
  const std::uint64_t written = std::uint64_t{1} << 24 | 1 << 13 | f.other.self().bits() << 3 | 1;
  std::memcpy(entry, &written, sizeof written);
  ASSERT_EQ(queue.try_pop().complete(Value::of(4)), Status::ready);
  EXPECT_EQ(queue.stats().results_expired, 1U);
  Value value{};
  EXPECT_EQ(queue.result(later, value), Status::expired);
  const std::uint64_t done = (written & ~std::uint64_t{0x1fff}) | 2;
  std::memcpy(entry, &done, sizeof done);  // the other goes on
  EXPECT_EQ(queue.result(later, value), Status::expired);
}

TEST(TaskQueueResults, of_a_task_that_was_late_by_a_lap_are_expired_at_once) {
  Fixture f({.capacity = capacity, .result_bytes = sizeof(Value), .results = 4});
  Queue queue = f.open(f.me);
  const TaskId slow = push(queue, 100);
  Task<Job> task = queue.try_pop();
  for (std::uint64_t i = 0; i < 4; ++i) push_and_complete(queue, i);
  const TaskId newest = slow + 4;
  ASSERT_EQ(task.complete(Value::of(100)), Status::ready);
  Value value{};
  EXPECT_EQ(queue.result(slow, value), Status::expired);
  EXPECT_EQ(number_of(queue, newest), 3U) << "a later result was overwritten";
  EXPECT_EQ(queue.stats().results_expired, 1U);
}

TEST(TaskQueueResults, go_on_where_cycles_and_ids_wrap) {
  for (const std::uint32_t results : {16U, 64U, 256U}) {
    for (const std::uint64_t first : {last_cycle - 2, last_cycle / 2 - 2}) {
      const Queue::Options options{
          .capacity = capacity, .lanes = 2, .result_bytes = sizeof(Value), .results = results};
      Fixture f(options, first);
      Queue queue = f.open(f.me);
      std::vector<TaskId> ids;
      for (std::uint64_t i = 0; i < 8 * capacity; ++i) {
        ids.push_back(push_and_complete(queue, i, 1));
        ASSERT_EQ(number_of(queue, ids.back()), i) << results << " results, first cycle " << first;
        if (i >= results) {
          ASSERT_EQ(look(queue, ids[i - results]), Status::expired) << i;
        }
        if (i + 1 >= results) {
          ASSERT_EQ(number_of(queue, ids[i + 1 - results]), i + 1 - results);
        }
      }
      EXPECT_EQ(queue.stats().results_expired, 0U);
    }
  }
}

// RESULT-2: a reader of a table that is gone round all the time gets a whole result of that very task,
// or hears that it has gone.
TEST(TaskQueueResults, are_never_torn_and_never_those_of_another_task) {
  Fixture f({.capacity = capacity, .result_bytes = sizeof(Sample), .results = 1});
  Queue queue = f.open(f.me);
  std::atomic<TaskId> newest{0};
  std::atomic<std::uint64_t> whole{0};
  std::atomic<bool> done{false};
  std::thread reader([&, reads = f.open(f.other)]() mutable {
    Sample sample{};
    while (!done) {
      const TaskId id = newest.load();
      const Status got = reads.result(id, sample, Deadline::now());
      if (got != Status::ready) continue;
      ASSERT_EQ(sample.words[0], id + 1);  // there is one producer, and one lane
      ASSERT_TRUE(sample.whole());
      ++whole;
    }
  });
  Sample sample{};
  const auto end = std::chrono::steady_clock::now() + test::patience;
  for (TaskId id = 0; whole < 2000 || id < 20'000; ++id) {
    ASSERT_EQ(queue.push(Job::of(id)).id, id);
    sample.fill(id + 1);
    ASSERT_EQ(queue.try_pop().complete(sample), Status::ready);
    newest.store(id);
    if (id % 1024 == 0 && (HasFailure() || std::chrono::steady_clock::now() > end)) break;
  }
  done = true;
  reader.join();
  EXPECT_GE(whole, 2000U);
}

// ---- dead letters

TEST(TaskQueueResults, of_a_dead_letter_are_failed_and_of_its_next_life_are_ready) {
  Fixture f(with_dead_letters);
  Queue queue = f.open(f.me);
  const TaskId id = push(queue, 1);
  ASSERT_EQ(queue.try_pop().fail("no"), Status::ready);
  Value value{};
  EXPECT_EQ(queue.result(id, value), Status::failed);
  ASSERT_EQ(queue.retry(id), Status::ready);
  EXPECT_EQ(look(queue, id), Status::timeout);
  ASSERT_EQ(queue.try_pop().complete(Value::of(3)), Status::ready);
  EXPECT_EQ(number_of(queue, id), 3U);
}

TEST(TaskQueueResults, of_a_dropped_dead_letter_are_failed_for_good) {
  Fixture f(with_dead_letters);
  Queue queue = f.open(f.me);
  const TaskId id = push(queue, 1);
  ASSERT_EQ(queue.try_pop().fail("no"), Status::ready);
  ASSERT_EQ(queue.drop(id), Status::ready);
  Value value{};
  EXPECT_EQ(queue.result(id, value), Status::failed);
  EXPECT_TRUE(f.all_free());
  for (std::uint64_t i = 1; i < capacity; ++i) push_and_complete(queue, i);
  EXPECT_EQ(queue.result(id, value), Status::failed);
  push_and_complete(queue, capacity);
  EXPECT_EQ(queue.result(id, value), Status::expired);
}

TEST(TaskQueueResults, that_fail_wake_those_who_wait) {
  Fixture f(with_dead_letters);
  Queue queue = f.open(f.me);
  const TaskId id = push(queue, 1);
  std::thread waiter([&, waits = f.open(f.other)]() mutable {
    Value value{};
    EXPECT_EQ(waits.result(id, value, Deadline::after(test::patience)), Status::failed);
  });
  ASSERT_EQ(queue.pop().fail("no"), Status::ready);
  waiter.join();
}

TEST(TaskQueueResults, allocate_nothing) {
  Fixture f({.capacity = capacity,
             .lanes = 2,
             .max_tries = 3,
             .lease_timeout = 1h,
             .result_bytes = sizeof(Value)});
  Queue queue = f.open(f.me);
  const long before = test::allocations;
  for (std::uint64_t i = 0; i < 200; ++i) {
    const Pushed pushed = queue.push(Job::of(i), Deadline::never(), {.lane = i % 2 == 0 ? 1U : 0U});
    if (queue.pop().fail("once more") != Status::ready) std::abort();
    Task<Job> task = queue.pop();
    if (task.extend() != Status::ready) std::abort();
    if (task.complete(Value::of(i)) != Status::ready) std::abort();
    Value value{};
    if (queue.result(pushed.id, value) != Status::ready || value.number != i) std::abort();
    if (queue.stats().now.leased != 0) std::abort();
  }
  EXPECT_EQ(test::allocations, before);
}

}  // namespace
}  // namespace heddle

// The task queue between real processes that are killed with SIGKILL or stopped.

#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <string>
#include <vector>

#include "heddle/shm/segment.hpp"
#include "heddle/sync/task_queue.hpp"
#include "support/job.hpp"
#include "support/process.hpp"
#include "support/ring_of.hpp"

namespace heddle {
namespace {

using namespace std::chrono_literals;
using test::Job;
using test::Line;
using test::Process;
using test::ring_of;

using Queue = TaskQueue<Job>;

constexpr auto name = "jobs";
Deadline long_enough() { return Deadline::after(test::patience); }

// A queue in a segment of its own, and how another process comes to it.
struct Fixture {
  explicit Fixture(std::uint32_t capacity = 64)
      : segment(Segment::anonymous({.bytes = Queue::bytes({capacity}) + 4 * page_bytes})),
        queue(segment.open<Queue>(name, {capacity})) {}
  Segment join() const { return Segment::adopt(segment.fd()); }

  Segment segment;
  Queue queue;
};

TEST(TaskQueueProcess, a_killed_workers_task_is_done_by_another) {
  Fixture f;
  for (std::uint64_t i = 0; i < 3; ++i) ASSERT_EQ(f.queue.push(Job::of(i)), Status::ready);
  Process worker([&](Line& line) {
    Segment segment = f.join();
    Queue queue = segment.find<Queue>(name);
    Task<Job> task = queue.pop(), second = queue.pop();
    line.say(std::to_string(task.payload().number));
    line.hear();
  });
  ASSERT_EQ(worker.hear(), "0");
  worker.kill();
  std::vector<std::uint64_t> tries(3);
  for (int i = 0; i < 3; ++i) {
    Task<Job> task = f.queue.pop(long_enough());
    ASSERT_TRUE(task);
    EXPECT_TRUE(task.payload().whole());
    tries[task.payload().number] = task.tries();
    ASSERT_EQ(task.complete(), Status::ready);
  }
  EXPECT_EQ(tries, (std::vector<std::uint64_t>{2, 2, 1}));
  EXPECT_EQ(f.queue.count().leased, 0U);
}

TEST(TaskQueueProcess, a_killed_producers_half_pushed_task_is_never_seen) {
  for (const bool gone_past : {false, true}) {
    Fixture f;
    Process producer([&](Line& line) {
      Segment segment = f.join();
      LeaseRing ring = ring_of<Job>(segment, name);
      LeaseRing::Reservation slot;
      if (ring.try_reserve(slot) != Status::ready) return;
      std::memset(slot.payload(), 0xee, sizeof(Job) / 2);
      line.say("filling");
      line.hear();
    });
    ASSERT_EQ(producer.hear(), "filling");
    if (gone_past) {
      ASSERT_EQ(f.queue.push(Job::of(1)), Status::ready);
      ASSERT_EQ(f.queue.pop().complete(), Status::ready);
    }
    producer.kill();
    ASSERT_EQ(f.queue.close(), Status::ready);
    EXPECT_EQ(f.queue.pop(long_enough()).status(), Status::closed);
    EXPECT_EQ(f.queue.count().filling, 0U);
  }
}

TEST(TaskQueueProcess, a_producer_that_waits_for_room_frees_what_a_dead_one_left) {
  Fixture f;
  Process dead([&](Line& line) {
    Segment segment = f.join();
    LeaseRing ring = ring_of<Job>(segment, name);
    LeaseRing::Reservation slot;
    while (ring.try_reserve(slot) == Status::ready) {
    }
    line.say("full");
    line.hear();
  });
  ASSERT_EQ(dead.hear(), "full");
  EXPECT_EQ(f.queue.try_push(Job::of(1)), Status::full);
  dead.kill();
  EXPECT_EQ(f.queue.push(Job::of(1), long_enough()), Status::ready);
}

TEST(TaskQueueProcess, a_closed_queue_waits_for_the_last_lease_until_its_holder_is_dead) {
  Fixture f;
  ASSERT_EQ(f.queue.push(Job::of(1)), Status::ready);
  Process worker([&](Line& line) {
    Segment segment = f.join();
    Queue queue = segment.find<Queue>(name);
    Task<Job> task = queue.pop();
    line.say("leased");
    line.hear();
  });
  ASSERT_EQ(worker.hear(), "leased");
  ASSERT_EQ(f.queue.close(), Status::ready);
  Process drainer([&](Line& line) {
    Segment segment = f.join();
    Queue queue = segment.find<Queue>(name);
    line.say(std::string(to_string(queue.pop(Deadline::after(30ms)).status())));
    Task<Job> task = queue.pop(long_enough());
    line.say(std::to_string(task.tries()));
    if (task.complete() != Status::ready) return;
    line.say(std::string(to_string(queue.pop(long_enough()).status())));
  });
  EXPECT_EQ(drainer.hear(), "timeout");
  worker.kill();
  EXPECT_EQ(drainer.hear(), "2");
  EXPECT_EQ(drainer.hear(), "closed");
  EXPECT_EQ(drainer.join(), 0);
}

TEST(TaskQueueProcess, a_stopped_workers_lease_is_not_stolen) {
  Fixture f;
  ASSERT_EQ(f.queue.push(Job::of(1)), Status::ready);
  Process worker([&](Line& line) {
    Segment segment = f.join();
    Queue queue = segment.find<Queue>(name);
    Task<Job> task = queue.pop();
    line.say("leased");
    line.hear();
    line.say(std::string(to_string(task.complete())));
  });
  ASSERT_EQ(worker.hear(), "leased");
  worker.stop();
  EXPECT_EQ(f.segment.recover_dead(), 0U);
  EXPECT_EQ(f.queue.pop(Deadline::after(30ms)).status(), Status::timeout);
  worker.resume();
  worker.say("go on");
  EXPECT_EQ(worker.hear(), "ready");
}

TEST(TaskQueueProcess, a_forked_child_cannot_use_or_lose_its_parents_lease) {
  Fixture f;
  ASSERT_EQ(f.queue.push(Job::of(1)), Status::ready);
  Task<Job> task = f.queue.pop();
  ASSERT_TRUE(task);
  Process child([&](Line&) {
    EXPECT_EQ(f.queue.push(Job::of(2)), Status::closed);
    EXPECT_EQ(f.queue.pop().status(), Status::closed);
    EXPECT_EQ(f.queue.close(), Status::closed);
    const Task<Job> dropped = std::move(task);
  });
  EXPECT_EQ(child.join(), 0);
  EXPECT_EQ(f.queue.count().leased, 1U);
  EXPECT_EQ(task.complete(), Status::ready);
}

TEST(TaskQueueProcess, a_push_wakes_a_consumer_that_sleeps_in_another_process) {
  Fixture f;
  Process worker([&](Line& line) {
    Segment segment = f.join();
    Queue queue = segment.find<Queue>(name);
    queue.wait_strategy(WaitStrategy::sleep);
    line.say("here");
    while (Task<Job> task = queue.pop()) {
      const std::uint64_t number = task.payload().number;
      if (task.complete() != Status::ready) return;
      line.say(std::to_string(number));
    }
  });
  ASSERT_EQ(worker.hear(), "here");
  for (std::uint64_t i = 0; i < 200; ++i) {
    ASSERT_EQ(f.queue.push(Job::of(i)), Status::ready);
    ASSERT_EQ(worker.hear(), std::to_string(i));
  }
  ASSERT_EQ(f.queue.close(), Status::ready);
  EXPECT_EQ(worker.join(), 0);
}

// ---- results, dead letters, lease timeout

// The same, with results.
struct ResultFixture {
  explicit ResultFixture(const Queue::Options& options = {.capacity = 64, .result_bytes = 8})
      : segment(Segment::anonymous({.bytes = Queue::bytes(options) + 4 * page_bytes})),
        queue(segment.open<Queue>(name, options)) {}
  Segment join() const { return Segment::adopt(segment.fd()); }
  TaskId push(std::uint64_t number) {
    const Pushed pushed = queue.push(Job::of(number));
    EXPECT_EQ(pushed.status, Status::ready);
    return pushed.id;
  }
  std::uint64_t result(TaskId id) {
    std::uint64_t number = 0;
    EXPECT_EQ(queue.result(id, number, long_enough()), Status::ready);
    return number;
  }
  // In a child: has a task, says so, and waits to be killed or told to complete it with `result`.
  auto worker(std::uint64_t result) const {
    return [this, result](Line& line) {
      Segment own = join();
      Task<Job> task = own.find<Queue>(name).pop(long_enough());
      line.say(task ? std::to_string(task.tries()) : "no task");
      line.hear();
      line.say(to_string(task.complete(result)));
    };
  }

  Segment segment;
  Queue queue;
};

TEST(TaskQueueProcess, a_result_waits_for_the_next_worker_when_the_first_is_killed) {
  ResultFixture f;
  const TaskId id = f.push(1);
  Process first(f.worker(111));
  ASSERT_EQ(first.hear(), "1");
  Process waiter([&](Line& line) {
    Segment own = f.join();
    Queue queue = own.find<Queue>(name);
    queue.wait_strategy(WaitStrategy::sleep);
    line.say("waits");
    std::uint64_t number = 0;
    const Status got = queue.result(id, number, long_enough());
    line.say(to_string(got) + (" " + std::to_string(number)));
  });
  ASSERT_EQ(waiter.hear(), "waits");
  first.kill();
  // The waiter itself finds the dead: nobody else looks.
  EXPECT_TRUE(test::eventually([&] { return f.queue.count().leased == 0; }));
  Process second(f.worker(222));
  ASSERT_EQ(second.hear(), "2");
  second.say("go on");
  EXPECT_EQ(second.hear(), "ready");
  EXPECT_EQ(waiter.hear(), "ready 222");
  EXPECT_EQ(waiter.join(), 0);
}

// Between ENDING and FREE.
TEST(TaskQueueProcess, a_worker_killed_after_it_published_its_result_has_given_it_for_good) {
  ResultFixture f;
  const TaskId id = f.push(1);
  Process worker([&](Line& line) {
    Segment own = f.join();
    LeaseRing ring = ring_of<Job>(own, name);
    LeaseRing::Lease lease;
    if (ring.try_lease(lease) != Status::ready || lease.begin_ending() != Status::ready) return;
    const auto memory =
        own.directory().find(name, Queue::kind, Queue::element(), own.peers(), long_enough());
    QueueCore core(memory, *QueueShape::of(memory), own.peers());
    const std::uint64_t result = 111;
    core.results_of(0).put(lease.ticket(), lease.tries(), lease.owner(),
                           std::as_bytes(std::span(&result, 1)));
    line.say("published");
    line.hear();
  });
  ASSERT_EQ(worker.hear(), "published");
  EXPECT_EQ(f.result(id), 111U);
  EXPECT_EQ(f.queue.pop(Deadline::after(30ms)).status(), Status::timeout) << "it lives";
  worker.kill();
  Task<Job> again = f.queue.pop(long_enough());
  ASSERT_TRUE(again);
  EXPECT_EQ(again.tries(), 2U);
  EXPECT_EQ(again.complete(std::uint64_t{222}), Status::ready);
  EXPECT_EQ(f.result(id), 111U) << "the first one stays";
}

TEST(TaskQueueProcess, a_stopped_worker_loses_its_lease_and_its_result_changes_nothing) {
  ResultFixture f({.capacity = 64, .lease_timeout = 5ms, .result_bytes = 8});
  const TaskId id = f.push(1);
  Process stopped(f.worker(111));
  ASSERT_EQ(stopped.hear(), "1");
  stopped.stop();
  Task<Job> task = f.queue.pop(long_enough());
  ASSERT_TRUE(task);
  EXPECT_EQ(task.id(), id);
  EXPECT_EQ(task.tries(), 2U);
  EXPECT_EQ(f.segment.recover_dead(), 0U) << "it is late, and not dead";
  stopped.resume();
  stopped.say("go on");
  EXPECT_EQ(stopped.hear(), "lost_lease");
  EXPECT_EQ(stopped.join(), 0);
  std::uint64_t number = 0;
  EXPECT_EQ(f.queue.result(id, number, Deadline::now()), Status::timeout);
  // It may have been late as well: what counts is who ends it.
  while (task.complete(std::uint64_t{222}) != Status::ready) {
    ASSERT_TRUE(task = f.queue.pop(long_enough()));
  }
  EXPECT_EQ(f.result(id), 222U);
  EXPECT_GE(f.queue.stats().expired, 1U);
  for (std::uint64_t i = 0; i < 64; ++i) EXPECT_TRUE(f.queue.try_push(Job::of(i)));
}

TEST(TaskQueueProcess,
     workers_that_are_killed_each_time_make_a_dead_letter_with_the_last_ones_pid) {
  ResultFixture f({.capacity = 64, .max_tries = 3, .result_bytes = 8});
  const TaskId id = f.push(1);
  pid_t last = 0;
  for (const char* tries : {"1", "2", "3"}) {
    Process worker(f.worker(111));
    ASSERT_EQ(worker.hear(), tries);
    last = worker.pid();
    worker.kill();
  }
  std::uint64_t number = 0;
  EXPECT_EQ(f.queue.result(id, number, long_enough()), Status::failed) << "who waits finds out";
  ASSERT_EQ(f.queue.dead_letters().size(), 1U);
  EXPECT_EQ(f.queue.dead_letters()[0].id, id);
  EXPECT_EQ(f.queue.dead_letters()[0].tries, 3U);
  EXPECT_EQ(f.queue.dead_letters()[0].worker, static_cast<std::uint32_t>(last));
  EXPECT_EQ(f.queue.dead_letters()[0].reason, "");
  ASSERT_EQ(f.queue.retry(id), Status::ready);
  Process worker(f.worker(444));
  ASSERT_EQ(worker.hear(), "4");
  worker.say("go on");
  EXPECT_EQ(worker.hear(), "ready");
  EXPECT_EQ(f.result(id), 444U);
}

TEST(TaskQueueProcess, a_reservation_of_a_killed_producer_is_never_seen_and_its_slot_free_again) {
  ResultFixture f;
  Process producer([&](Line& line) {
    Segment own = f.join();
    Queue queue = own.find<Queue>(name);
    Reservation<Job> slot = queue.reserve();
    slot.payload() = Job::of(1);
    line.say(slot ? "reserved" : "no room");
    line.hear();
  });
  ASSERT_EQ(producer.hear(), "reserved");
  EXPECT_EQ(f.queue.count().filling, 1U);
  producer.kill();
  EXPECT_EQ(f.queue.pop(Deadline::after(30ms)).status(), Status::timeout);
  EXPECT_EQ(f.queue.count().filling, 0U);
  const TaskId id = f.push(2);
  Task<Job> task = f.queue.pop();
  EXPECT_EQ(task.id(), id);
  EXPECT_EQ(task.payload().number, 2U);
}

TEST(TaskQueueProcess, a_delayed_task_of_a_killed_producer_is_had_when_it_is_due) {
  ResultFixture f({.capacity = 64, .delays = true});
  Process producer([&](Line& line) {
    Segment own = f.join();
    Queue queue = own.find<Queue>(name);
    const Pushed pushed = queue.push(Job::of(1), Deadline::never(), {.delay = 1ms});
    line.say(to_string(pushed.status));
    line.hear();
  });
  ASSERT_EQ(producer.hear(), "ready");
  producer.kill();
  EXPECT_EQ(f.queue.pop(long_enough()).payload().number, 1U);
}

}  // namespace
}  // namespace heddle

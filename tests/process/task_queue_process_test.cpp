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

}  // namespace
}  // namespace heddle

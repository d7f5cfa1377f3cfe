// The task queue between real processes that are killed with SIGKILL or stopped.

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "heddle/shm/segment.hpp"
#include "heddle/sync/task_queue.hpp"
#include "support/job.hpp"
#include "support/process.hpp"

namespace heddle {
namespace {

using namespace std::chrono_literals;
using test::eventually;
using test::Job;
using test::Line;
using test::Process;

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

// The engine below a queue, to stop between its two steps.
LeaseRing ring_of(Segment& segment) {
  const auto memory = segment.directory().find(name, Queue::kind, Queue::element(), segment.peers(),
                                               Deadline::after(5s));
  return LeaseRing(memory, *LeaseRingShape::of(memory), segment.peers());
}

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
      LeaseRing ring = ring_of(segment);
      LeaseRing::Reservation slot;
      if (ring.try_reserve(slot) != Status::ready) return;
      std::memset(slot.payload(ring.payload_at()), 0xee, sizeof(Job) / 2);
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
    LeaseRing ring = ring_of(segment);
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

// Everything is killed at random, those who recover the dead too, and started again. What a
// producer was told is pushed must be done; what is done twice must have had a worker killed.
// Producers and workers linger in the middle of a push and of a task, so that most die there.
TEST(TaskQueueProcess, a_kill_storm_loses_nothing) {
  constexpr auto length = 2s;
  constexpr std::size_t most = 16'000'000;
  struct Account {
    std::atomic<std::uint64_t> drawn{0}, torn{0}, wrong{0};
    std::atomic<bool> pushing{true};
    std::array<std::atomic<std::uint8_t>, most> pushed{}, done{};
  };
  void* shared = mmap(nullptr, sizeof(Account), PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ASSERT_NE(shared, MAP_FAILED);
  auto& account = *static_cast<Account*>(shared);  // zeroes are what it begins with
  account.pushing = true;

  Fixture f;
  const auto linger = [](std::uint64_t number) {
    for (std::uint64_t i = number * 7 % 64; i != 0; --i) heddle::pause();
  };
  const auto produce = [&](Line&) {
    Segment segment = f.join();
    LeaseRing ring = ring_of(segment);
    while (account.pushing) {
      const std::uint64_t number = account.drawn.fetch_add(1);
      if (number >= most) return;
      LeaseRing::Reservation slot;
      if (ring.reserve(slot, long_enough()) != Status::ready) ++account.wrong;
      const Job job = Job::of(number);
      std::memcpy(slot.payload(ring.payload_at()), &job, sizeof(Job) / 2);
      linger(number);
      std::memcpy(slot.payload(ring.payload_at()), &job, sizeof(Job));
      if (slot.commit() == Status::ready) {
        account.pushed[number] = 1;
      } else {
        ++account.wrong;
      }
    }
  };
  const auto work = [&](Line&) {
    Segment segment = f.join();
    Queue queue = segment.find<Queue>(name);
    Task<Job> task;
    while ((task = queue.pop())) {
      const Job& job = task.payload();
      if (!job.whole() || job.number >= most) {
        ++account.torn;
        continue;
      }
      linger(job.number);
      ++account.done[job.number];
      linger(job.number / 64);
      if (task.complete() != Status::ready) ++account.wrong;
    }
    if (task.status() != Status::closed) ++account.wrong;
  };
  const auto reap = [&](Line&) {
    Segment segment = f.join();
    while (account.pushing) segment.recover_dead();
  };
  constexpr std::size_t producers = 2, workers = 2, all = 5;
  std::vector<Process> processes;
  const auto start = [&](std::size_t i) {
    if (i < producers) return Process(produce);
    return i < producers + workers ? Process(work) : Process(reap);
  };
  for (std::size_t i = 0; i < all; ++i) processes.push_back(start(i));

  std::mt19937_64 random(20);
  std::uint64_t kills = 0, worker_kills = 0;
  const auto end = std::chrono::steady_clock::now() + length;
  while (std::chrono::steady_clock::now() < end) {
    const std::size_t victim = random() % all;
    // At any instruction: the pause before is what makes it random, nothing waits for it to end.
    for (std::uint64_t spins = random() % 200'000; spins != 0; --spins) heddle::pause();
    processes[victim].kill();
    processes[victim] = start(victim);
    ++kills;
    if (victim >= producers && victim < producers + workers) ++worker_kills;
  }
  account.pushing = false;
  for (std::size_t i = 0; i < all; ++i) {
    if (i < producers || i >= producers + workers) {
      EXPECT_EQ(processes[i].join(), 0);
    }
  }
  ASSERT_EQ(f.queue.close(), Status::ready);
  for (std::size_t i = producers; i < producers + workers; ++i) EXPECT_EQ(processes[i].join(), 0);

  const std::uint64_t drawn = std::min<std::uint64_t>(account.drawn, most);
  std::uint64_t lost = 0, repeated = 0, done = 0;
  for (std::uint64_t i = 0; i < drawn; ++i) {
    if (account.pushed[i] != 0 && account.done[i] == 0) ++lost;
    if (account.done[i] > 1) repeated += account.done[i] - 1U;
    if (account.done[i] > 0) ++done;
  }
  EXPECT_EQ(lost, 0U);
  EXPECT_LE(repeated, worker_kills);
  EXPECT_EQ(account.torn, 0U);
  EXPECT_EQ(account.wrong, 0U);
  EXPECT_GT(done, 1000U);
  EXPECT_GT(kills, 20U);
  f.segment.recover_dead();
  const LeaseCounts left = f.queue.count();
  EXPECT_EQ(left.filling + left.waiting + left.leased, 0U);
  RecordProperty("kills", std::to_string(kills));
  RecordProperty("tasks", std::to_string(done));
  munmap(shared, sizeof(Account));
}

}  // namespace
}  // namespace heddle

#include "heddle/sync/task_queue.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <memory>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "support/allocations.hpp"
#include "support/block.hpp"
#include "support/fake_peers.hpp"
#include "support/job.hpp"
#include "support/process.hpp"

namespace heddle {
namespace {

using namespace std::chrono_literals;
using test::Block;
using test::eventually;
using test::FakePeers;
using test::FakeTable;
using test::Job;

using Queue = TaskQueue<Job>;
static_assert(SharedObject<Queue>);

constexpr std::uint64_t capacity = 64;
constexpr std::uint64_t laps_end = LeaseWord::cycle_mask + 1;

struct Fixture {
  explicit Fixture(std::uint64_t first_cycle = 0)
      : shape{capacity, sizeof(Job), 8}, block(shape.bytes()) {
    LeaseRing::format(block.span(), shape, first_cycle);
  }

  Queue open(Peers& peers) { return Queue(block.span(), peers); }
  LeaseRing ring(Peers& peers) { return LeaseRing(block.span(), shape, peers); }

  LeaseRingHeader& header() { return *reinterpret_cast<LeaseRingHeader*>(block.span().data()); }
  Atomic<std::uint64_t>& slot(std::uint64_t index) {
    auto* at = block.span().data() + sizeof(LeaseRingHeader) + index * shape.stride();
    return reinterpret_cast<LeaseSlot*>(at)->word;
  }
  LeaseWord word(std::uint64_t index) { return LeaseWord(slot(index).load(relaxed)); }
  bool all_free() {
    for (std::uint64_t i = 0; i < shape.capacity; ++i) {
      if (word(i).state() != LeaseState::free) return false;
    }
    return true;
  }
  // The wake-ups that an event has given, and whether somebody sleeps or is about to.
  static std::uint32_t wakes(Event& event) {
    return std::atomic_ref(reinterpret_cast<std::uint32_t&>(event)).load() >> 1;
  }
  static bool has_sleeper(Event& event) { return event.has_sleepers_after_rmw(); }

  LeaseRingShape shape;
  Block block;
  FakeTable table{[this](const Dead& dead) { LeaseRing::repair(block.span(), dead); }};
  FakePeers me{table, 0}, other{table, 1}, third{table, 2};
};

std::byte* fill(const LeaseRing::Reservation& slot, std::uint64_t number) {
  const Job job = Job::of(number);
  std::byte* payload = slot.payload();
  std::memcpy(payload, &job, sizeof job);
  return payload;
}

// ---- words

TEST(LeaseWord, keeps_its_parts_apart) {
  const LeaseWord word(LeaseWord::cycle_mask, 2047, Owner::at(1022), LeaseState::requeue);
  EXPECT_EQ(word.cycle(), LeaseWord::cycle_mask);
  EXPECT_EQ(word.grant(), 2047U);
  EXPECT_EQ(word.owner(), Owner::at(1022));
  EXPECT_EQ(word.state(), LeaseState::requeue);
  EXPECT_EQ(word.next_cycle(), LeaseWord(0, 2047, Owner::at(1022), LeaseState::requeue));
}

TEST(LeaseWord, compares_cycles_around_their_end) {
  const auto ahead = [](std::uint64_t word, std::uint64_t cycle) {
    return LeaseWord(word, 2047, Owner::at(1022), LeaseState::leased).ahead_of(cycle);
  };
  EXPECT_EQ(ahead(5, 5), 0);
  EXPECT_EQ(ahead(7, 5), 2);
  EXPECT_EQ(ahead(4, 5), -1);
  EXPECT_EQ(ahead(1, LeaseWord::cycle_mask), 2);
  EXPECT_EQ(ahead(LeaseWord::cycle_mask, 1), -2);
}

TEST(LeaseWord, every_lease_changes_the_grant_also_past_its_end) {
  const LeaseWord last(3, 2047, nobody, LeaseState::requeue);
  EXPECT_EQ(last.leased_to(Owner::at(0)).grant(), 1024U);
  EXPECT_EQ(LeaseWord(3, 1, nobody, LeaseState::requeue).leased_to(Owner::at(0)).grant(), 2U);
}

// ---- first in, first out

TEST(TaskQueue, hands_tasks_out_in_order) {
  Fixture f;
  Queue producer = f.open(f.me), consumer = f.open(f.other);
  for (std::uint64_t i = 0; i < 50; ++i) ASSERT_EQ(producer.try_push(Job::of(i)), Status::ready);
  EXPECT_EQ(consumer.count().waiting, 50U);
  for (std::uint64_t i = 0; i < 50; ++i) {
    Task<Job> task = consumer.try_pop();
    ASSERT_TRUE(task);
    EXPECT_EQ(task.payload().number, i);
    EXPECT_TRUE(task.payload().whole());
    EXPECT_EQ(task.id(), i);
    EXPECT_EQ(task.tries(), 1U);
    EXPECT_EQ(consumer.count().leased, 1U);
    EXPECT_EQ(task.complete(), Status::ready);
    EXPECT_FALSE(task);
  }
  EXPECT_EQ(consumer.try_pop().status(), Status::empty);
  EXPECT_TRUE(f.all_free());
}

TEST(TaskQueue, goes_round_many_times_and_past_the_end_of_the_cycles) {
  for (const std::uint64_t first : {std::uint64_t{0}, laps_end - 3, laps_end / 2 - 3}) {
    Fixture f(first);
    Queue producer = f.open(f.me), consumer = f.open(f.other);
    std::uint64_t pushed = 0, popped = 0;
    std::set<std::uint64_t> ids;
    for (std::uint64_t round = 0; round < 100; ++round) {
      const std::uint64_t burst = round * 7 % capacity + 1;
      for (std::uint64_t i = 0; i < burst; ++i) {
        ASSERT_EQ(producer.try_push(Job::of(pushed++)), Status::ready);
      }
      for (std::uint64_t i = 0; i < burst; ++i) {
        Task<Job> task = consumer.try_pop();
        ASSERT_TRUE(task) << round;
        ASSERT_EQ(task.payload().number, popped++);
        EXPECT_TRUE(ids.insert(task.id()).second);
        ASSERT_EQ(task.complete(), Status::ready);
      }
      ASSERT_EQ(consumer.try_pop().status(), Status::empty);
    }
    EXPECT_TRUE(f.all_free());
  }
}

TEST(TaskQueue, is_full_when_every_slot_holds_a_task) {
  Fixture f;
  Queue queue = f.open(f.me);
  for (std::uint64_t i = 0; i < capacity; ++i) ASSERT_EQ(queue.try_push(Job::of(i)), Status::ready);
  EXPECT_EQ(queue.try_push(Job::of(99)), Status::full);
  EXPECT_EQ(queue.push(Job::of(99), Deadline::after(1ms)), Status::timeout);
  ASSERT_EQ(queue.try_pop().complete(), Status::ready);
  EXPECT_EQ(queue.try_push(Job::of(99)), Status::ready);
  EXPECT_EQ(queue.try_push(Job::of(100)), Status::full);
}

TEST(TaskQueue, pop_ends_at_its_deadline) {
  Fixture f;
  Queue queue = f.open(f.me);
  EXPECT_EQ(queue.pop(Deadline::after(3ms)).status(), Status::timeout);
  EXPECT_EQ(queue.pop(Deadline::now()).status(), Status::timeout);
}

// QUEUE-1
TEST(TaskQueue, loses_and_repeats_nothing_between_many_threads) {
  constexpr std::uint64_t producers = 3, consumers = 3, each = 20'000;
  for (const std::uint64_t first : {std::uint64_t{0}, laps_end - 20}) {
    Fixture f(first);
    const Queue original = f.open(f.me);
    std::vector<std::atomic<int>> done(producers * each);
    std::atomic<int> torn{0};
    std::vector<std::thread> threads;
    for (std::uint64_t p = 0; p < producers; ++p) {
      threads.emplace_back([&, p, queue = original]() mutable {
        for (std::uint64_t i = 0; i < each; ++i) {
          ASSERT_EQ(queue.push(Job::of(p * each + i)), Status::ready);
        }
      });
    }
    for (std::uint64_t c = 0; c < consumers; ++c) {
      threads.emplace_back([&, c, queue = original]() mutable {
        if (c == 0) queue.wait_strategy(WaitStrategy::sleep);
        while (Task<Job> task = queue.pop()) {
          if (!task.payload().whole()) ++torn;
          ++done[task.payload().number];
          EXPECT_EQ(task.complete(), Status::ready);
        }
      });
    }
    for (std::uint64_t p = 0; p < producers; ++p) threads[p].join();
    Queue closer = original;
    ASSERT_EQ(closer.close(), Status::ready);
    for (std::uint64_t c = 0; c < consumers; ++c) threads[producers + c].join();
    EXPECT_EQ(torn, 0);
    EXPECT_TRUE(std::all_of(done.begin(), done.end(), [](const auto& n) { return n == 1; }));
    EXPECT_TRUE(f.all_free());
  }
}

// ---- leases

TEST(TaskQueue, a_failed_or_dropped_task_comes_back) {
  Fixture f;
  Queue queue = f.open(f.me);
  ASSERT_EQ(queue.try_push(Job::of(7)), Status::ready);
  Task<Job> task = queue.try_pop();
  ASSERT_TRUE(task);
  const std::uint64_t id = task.id();
  EXPECT_EQ(task.fail(), Status::ready);
  EXPECT_EQ(task.fail(), Status::lost_lease);
  {
    const Task<Job> dropped = queue.try_pop();
    ASSERT_TRUE(dropped);
    EXPECT_EQ(dropped.tries(), 2U);
  }
  Task<Job> again = queue.try_pop();
  ASSERT_TRUE(again);
  EXPECT_EQ(again.tries(), 3U);
  EXPECT_EQ(again.id(), id);
  EXPECT_EQ(again.payload().number, 7U);
  EXPECT_EQ(again.complete(), Status::ready);
  EXPECT_EQ(again.complete(), Status::lost_lease);
  EXPECT_TRUE(f.all_free());
}

TEST(TaskQueue, a_moved_task_is_held_once) {
  Fixture f;
  Queue queue = f.open(f.me);
  for (std::uint64_t i = 0; i < 2; ++i) ASSERT_EQ(queue.try_push(Job::of(i)), Status::ready);
  Task<Job> a = queue.try_pop(), b = std::move(a);
  EXPECT_FALSE(a);  // NOLINT(bugprone-use-after-move): that it is empty is the claim
  ASSERT_TRUE(b);
  EXPECT_EQ(queue.count().leased, 1U);
  b = queue.try_pop();  // gives the first back
  EXPECT_EQ(b.payload().number, 1U);
  EXPECT_EQ(queue.count().leased, 1U);
  EXPECT_EQ(queue.count().waiting, 1U);
  b = Task<Job>();
  EXPECT_EQ(queue.count().waiting, 2U);
}

TEST(TaskQueue, a_task_outlives_the_handle_it_came_from) {
  Fixture f;
  auto queue = std::make_unique<Queue>(f.open(f.me));
  ASSERT_EQ(queue->try_push(Job::of(5)), Status::ready);
  Task<Job> task = queue->try_pop();
  queue.reset();
  EXPECT_EQ(task.payload().number, 5U);
  EXPECT_EQ(task.complete(), Status::ready);
  EXPECT_TRUE(f.all_free());
}

// QUEUE-4
TEST(TaskQueue, a_returned_task_is_seen_by_consumers_that_have_gone_past_it) {
  Fixture f;
  Queue queue = f.open(f.me), late = f.open(f.other);
  for (std::uint64_t i = 0; i < 5; ++i) ASSERT_EQ(queue.try_push(Job::of(i)), Status::ready);
  std::vector<Task<Job>> held(3);
  for (Task<Job>& task : held) task = queue.try_pop();
  for (int i = 0; i < 2; ++i) ASSERT_EQ(late.try_pop().complete(), Status::ready);
  ASSERT_EQ(late.try_pop().status(), Status::empty);
  for (Task<Job>& task : held) ASSERT_EQ(task.fail(), Status::ready);
  for (std::uint64_t i = 0; i < 3; ++i) {
    Task<Job> task = late.try_pop();
    ASSERT_TRUE(task);
    EXPECT_EQ(task.payload().number, i);
    ASSERT_EQ(task.complete(), Status::ready);
  }
  EXPECT_EQ(late.try_pop().status(), Status::empty);
  EXPECT_TRUE(f.all_free());
}

TEST(TaskQueue, a_handle_made_later_sees_a_returned_task_too) {
  Fixture f;
  Queue queue = f.open(f.me);
  ASSERT_EQ(queue.try_push(Job::of(0)), Status::ready);
  ASSERT_EQ(queue.try_pop().fail(), Status::ready);
  EXPECT_TRUE(f.open(f.other).try_pop());
}

// The returner stopped, or died, between REQUEUE and `returned`: no word names it any more.
TEST(TaskQueue, an_untold_return_is_found_by_an_idle_consumer) {
  Fixture f;
  Queue queue = f.open(f.me), idle = f.open(f.other);
  ASSERT_EQ(queue.try_push(Job::of(3)), Status::ready);
  Task<Job> task = queue.try_pop();
  ASSERT_EQ(idle.try_pop().status(), Status::empty);
  ASSERT_EQ(task.fail(), Status::ready);
  f.header().returned.store(0, relaxed);  // as if it had not come to that
  Task<Job> found = idle.pop(Deadline::after(10s));
  ASSERT_TRUE(found);
  EXPECT_EQ(found.payload().number, 3U);
}

TEST(TaskQueue, long_leases_are_walked_over) {
  Fixture f;
  Queue worker = f.open(f.me), queue = f.open(f.other);
  std::vector<Task<Job>> held;
  for (std::uint64_t i = 0; i < capacity / 2; ++i) {
    ASSERT_EQ(queue.try_push(Job::of(i)), Status::ready);
    held.push_back(worker.try_pop());
  }
  for (std::uint64_t i = 0; i < 1000; ++i) {
    ASSERT_EQ(queue.try_push(Job::of(100 + i)), Status::ready) << i;
    Task<Job> task = queue.try_pop();
    ASSERT_TRUE(task) << i;
    ASSERT_EQ(task.payload().number, 100 + i);
    ASSERT_EQ(task.complete(), Status::ready);
  }
  // Producers have moved their words on more than once; fail and complete find them nevertheless.
  EXPECT_GT(f.word(0).cycle(), 10U);
  for (std::uint64_t i = 0; i < held.size(); ++i) {
    EXPECT_EQ(held[i].payload().number, i);
    ASSERT_EQ(i % 2 == 0 ? held[i].complete() : held[i].fail(), Status::ready);
  }
  for (std::uint64_t i = 1; i < held.size(); i += 2) {
    Task<Job> task = queue.try_pop();
    ASSERT_TRUE(task);
    EXPECT_EQ(task.payload().number, i);
    EXPECT_EQ(task.id(), i);
    EXPECT_EQ(task.tries(), 2U);
    ASSERT_EQ(task.complete(), Status::ready);
  }
  EXPECT_EQ(queue.try_pop().status(), Status::empty);
  EXPECT_TRUE(f.all_free());
}

TEST(TaskQueue, a_returned_task_is_leased_although_producers_went_past_it) {
  Fixture f;
  Queue queue = f.open(f.me);
  ASSERT_EQ(queue.try_push(Job::of(0)), Status::ready);
  ASSERT_EQ(queue.try_pop().fail(), Status::ready);  // REQUEUE in slot 0
  for (std::uint64_t i = 1; i < capacity; ++i) ASSERT_EQ(queue.try_push(Job::of(i)), Status::ready);
  EXPECT_EQ(queue.try_push(Job::of(99)), Status::full);  // went past slot 0, then met slot 1
  EXPECT_EQ(f.word(0).cycle(), 2U);
  std::set<std::uint64_t> numbers;
  while (Task<Job> task = queue.try_pop()) {
    numbers.insert(task.payload().number);
    ASSERT_EQ(task.complete(), Status::ready);
  }
  EXPECT_EQ(numbers.size(), capacity);
  EXPECT_TRUE(f.all_free());
}

TEST(TaskQueue, is_full_when_all_slots_are_leased) {
  Fixture f;
  Queue queue = f.open(f.me);
  std::vector<Task<Job>> held;
  for (std::uint64_t i = 0; i < capacity; ++i) {
    ASSERT_EQ(queue.try_push(Job::of(i)), Status::ready);
    held.push_back(queue.try_pop());
  }
  EXPECT_EQ(queue.try_push(Job::of(99)), Status::full);
  EXPECT_EQ(queue.push(Job::of(99), Deadline::after(2ms)), Status::timeout);
  EXPECT_EQ(queue.try_pop().status(), Status::empty);
  ASSERT_EQ(held[40].complete(), Status::ready);
  EXPECT_EQ(queue.try_push(Job::of(99)), Status::ready);
  EXPECT_EQ(queue.try_push(Job::of(100)), Status::full);
  Task<Job> task = queue.try_pop();
  ASSERT_TRUE(task);
  EXPECT_EQ(task.payload().number, 99U);
}

// QUEUE-3
TEST(TaskQueue, a_lost_lease_changes_nothing) {
  Fixture f;
  Queue queue = f.open(f.me), rescuer = f.open(f.other);
  ASSERT_EQ(queue.try_push(Job::of(1)), Status::ready);
  Task<Job> lost = queue.try_pop();
  Task<Job> same_lost_task = queue.try_pop();
  ASSERT_FALSE(same_lost_task);
  f.table.kill(f.me.self());
  Task<Job> rescued = rescuer.pop(Deadline::after(10s));
  ASSERT_TRUE(rescued);
  const LeaseWord before = f.word(0);
  EXPECT_EQ(lost.complete(), Status::lost_lease);
  EXPECT_EQ(f.word(0), before);
  EXPECT_EQ(rescued.complete(), Status::ready);
}

// The slot holds a later task, leased by the same owner for the same time, in a later cycle: as
// producers going past the first lease would have made its word look.
TEST(TaskQueue, a_lost_lease_is_not_taken_for_a_later_one_of_its_slot) {
  Fixture f;
  Queue queue = f.open(f.me), rescuer = f.open(f.other);
  ASSERT_EQ(queue.try_push(Job::of(1)), Status::ready);
  Task<Job> lost = queue.try_pop();
  f.table.kill(f.me.self());
  ASSERT_EQ(rescuer.pop(Deadline::after(10s)).complete(), Status::ready);
  f.table.rejoin(f.me.self());

  std::vector<Task<Job>> held;
  for (std::uint64_t i = 0; i < capacity; ++i) {
    ASSERT_EQ(queue.try_push(Job::of(100 + i)), Status::ready);
    held.push_back(queue.try_pop());
  }
  ASSERT_EQ(f.word(0).state(), LeaseState::leased);
  ASSERT_EQ(f.word(0).owner(), f.me.self());
  ASSERT_EQ(f.word(0).grant(), lost.tries());
  const LeaseWord before = f.word(0);
  EXPECT_EQ(lost.complete(), Status::lost_lease);
  EXPECT_EQ(f.word(0), before);
  EXPECT_EQ(held.back().complete(), Status::ready);
}

// ---- producers that stop

TEST(TaskQueue, an_uncommitted_task_is_not_seen_and_holds_its_place) {
  Fixture f;
  LeaseRing producer = f.ring(f.me);
  Queue consumer = f.open(f.other);
  LeaseRing::Reservation slot;
  ASSERT_EQ(producer.try_reserve(slot), Status::ready);
  EXPECT_EQ(consumer.try_pop().status(), Status::empty);
  EXPECT_EQ(f.word(0).state(), LeaseState::filling);  // nothing behind it: not gone past
  fill(slot, 4);
  EXPECT_EQ(slot.commit(), Status::ready);
  Task<Job> task = consumer.try_pop();
  ASSERT_TRUE(task);
  EXPECT_EQ(task.payload().number, 4U);
  EXPECT_EQ(task.id(), slot.ticket());
}

TEST(TaskQueue, consumers_go_past_a_stopped_producer_and_get_its_task_later) {
  Fixture f;
  LeaseRing stopped = f.ring(f.me);
  Queue producer = f.open(f.other), consumer = f.open(f.third);
  LeaseRing::Reservation slot;
  ASSERT_EQ(stopped.try_reserve(slot), Status::ready);
  for (std::uint64_t i = 1; i < 4; ++i) ASSERT_EQ(producer.try_push(Job::of(i)), Status::ready);
  for (std::uint64_t i = 1; i < 4; ++i) {
    Task<Job> task = consumer.try_pop();
    ASSERT_TRUE(task);
    EXPECT_EQ(task.payload().number, i);
    ASSERT_EQ(task.complete(), Status::ready);
  }
  EXPECT_EQ(f.word(0).state(), LeaseState::abandoned);
  EXPECT_EQ(consumer.try_pop().status(), Status::empty);
  // Producers go past it, too.
  for (std::uint64_t i = 0; i < 3 * capacity; ++i) {
    ASSERT_EQ(producer.try_push(Job::of(10 + i)), Status::ready);
    ASSERT_EQ(consumer.try_pop().complete(), Status::ready);
  }
  fill(slot, 77);
  EXPECT_EQ(slot.commit(), Status::ready);
  Task<Job> task = consumer.try_pop();
  ASSERT_TRUE(task);
  EXPECT_EQ(task.payload().number, 77U);
  EXPECT_TRUE(task.payload().whole());
  EXPECT_EQ(task.id(), 0U);
  EXPECT_EQ(task.tries(), 1U);
  ASSERT_EQ(task.complete(), Status::ready);
  EXPECT_TRUE(f.all_free());
}

TEST(TaskQueue, a_cancelled_push_leaves_nothing_behind) {
  Fixture f;
  LeaseRing producer = f.ring(f.me);
  Queue queue = f.open(f.other);
  LeaseRing::Reservation first, second;
  ASSERT_EQ(producer.try_reserve(first), Status::ready);
  ASSERT_EQ(first.cancel(), Status::ready);
  ASSERT_EQ(producer.try_reserve(second), Status::ready);
  ASSERT_EQ(queue.try_push(Job::of(2)), Status::ready);
  ASSERT_EQ(queue.try_pop().complete(), Status::ready);  // past both
  ASSERT_EQ(f.word(1).state(), LeaseState::abandoned);
  EXPECT_EQ(second.cancel(), Status::ready);
  EXPECT_TRUE(f.all_free());
  EXPECT_EQ(first.cancel(), Status::lost_lease);
  EXPECT_EQ(second.commit(), Status::lost_lease);
  for (std::uint64_t i = 0; i < 3 * capacity; ++i) {
    ASSERT_EQ(queue.try_push(Job::of(i)), Status::ready);
    Task<Job> task = queue.try_pop();
    ASSERT_EQ(task.payload().number, i);
    ASSERT_EQ(task.complete(), Status::ready);
  }
}

// ---- death

TEST(TaskQueue, a_killed_workers_tasks_go_to_others) {
  Fixture f;
  Queue survivor = f.open(f.other);
  for (std::uint64_t i = 0; i < 10; ++i) ASSERT_EQ(survivor.try_push(Job::of(i)), Status::ready);
  std::vector<LeaseRing::Lease> held(10);
  LeaseRing ring = f.ring(f.me);
  for (auto& lease : held) ASSERT_EQ(ring.try_lease(lease), Status::ready);
  f.table.kill(f.me.self());
  for (std::uint64_t i = 0; i < 10; ++i) {
    Task<Job> task = survivor.pop(Deadline::after(10s));  // finds out by itself
    ASSERT_TRUE(task);
    EXPECT_EQ(task.payload().number, i);
    EXPECT_EQ(task.tries(), 2U);
    ASSERT_EQ(task.complete(), Status::ready);
  }
  EXPECT_TRUE(f.all_free());
}

// QUEUE-4: by whomever they were recovered, and whatever the dead had told before.
TEST(TaskQueue, recovered_tasks_are_seen_at_once_by_consumers_that_have_gone_past_them) {
  Fixture f;
  Queue survivor = f.open(f.other);
  ASSERT_EQ(survivor.try_push(Job::of(1)), Status::ready);
  LeaseRing::Lease lease;
  ASSERT_EQ(f.ring(f.me).try_lease(lease), Status::ready);
  ASSERT_EQ(survivor.try_pop().status(), Status::empty);
  f.table.kill(f.me.self());
  LeaseRing::repair(f.block.span(), f.table.dead_of(f.me.self()));
  EXPECT_TRUE(survivor.try_pop());
}

TEST(TaskQueue, a_caller_that_only_polls_finds_the_dead_too) {
  Fixture f;
  Queue survivor = f.open(f.other);
  ASSERT_EQ(survivor.try_push(Job::of(1)), Status::ready);
  LeaseRing::Lease held;
  ASSERT_EQ(f.ring(f.me).try_lease(held), Status::ready);
  f.table.kill(f.me.self());
  EXPECT_TRUE(eventually([&] { return bool(survivor.try_pop()); }));
}

TEST(TaskQueue, a_killed_producers_slot_is_passed_and_used_again) {
  Fixture f;
  LeaseRing producer = f.ring(f.me);
  Queue survivor = f.open(f.other);
  LeaseRing::Reservation slot;
  ASSERT_EQ(producer.try_reserve(slot), Status::ready);
  f.table.kill(f.me.self());
  EXPECT_EQ(survivor.pop(Deadline::after(5ms)).status(), Status::timeout);
  EXPECT_EQ(f.word(0), LeaseWord(1, 0, nobody, LeaseState::free));
  for (std::uint64_t i = 0; i < 2 * capacity; ++i) {
    ASSERT_EQ(survivor.try_push(Job::of(i)), Status::ready);
    Task<Job> task = survivor.try_pop();
    ASSERT_EQ(task.payload().number, i);
    ASSERT_EQ(task.complete(), Status::ready);
  }
}

TEST(TaskQueue, a_producer_killed_after_it_was_gone_past_leaves_a_free_slot) {
  Fixture f;
  LeaseRing producer = f.ring(f.me);
  Queue survivor = f.open(f.other);
  LeaseRing::Reservation slot;
  ASSERT_EQ(producer.try_reserve(slot), Status::ready);
  ASSERT_EQ(survivor.try_push(Job::of(1)), Status::ready);
  ASSERT_EQ(survivor.try_pop().complete(), Status::ready);
  ASSERT_EQ(f.word(0).state(), LeaseState::abandoned);
  f.table.kill(f.me.self());
  EXPECT_EQ(survivor.pop(Deadline::after(5ms)).status(), Status::timeout);
  EXPECT_TRUE(f.all_free());
  EXPECT_EQ(slot.commit(), Status::lost_lease);
  EXPECT_TRUE(f.all_free());
}

TEST(TaskQueue, a_dead_producer_does_not_keep_the_queue_full) {
  Fixture f;
  LeaseRing producer = f.ring(f.me);
  Queue survivor = f.open(f.other);
  LeaseRing::Reservation slot;
  for (std::uint64_t i = 0; i < capacity; ++i) {
    ASSERT_EQ(producer.try_reserve(slot), Status::ready);
  }
  EXPECT_EQ(survivor.try_push(Job::of(1)), Status::full);
  f.table.kill(f.me.self());
  EXPECT_EQ(survivor.try_push(Job::of(1)), Status::ready);
  EXPECT_EQ(survivor.count().filling, 0U);
}

TEST(TaskQueue, producers_among_dead_leases_and_abandoned_slots_find_room) {
  Fixture f;
  LeaseRing dead = f.ring(f.me);
  Queue survivor = f.open(f.other);
  LeaseRing::Reservation slot;
  ASSERT_EQ(dead.try_reserve(slot), Status::ready);
  for (std::uint64_t i = 1; i < capacity; ++i) {
    ASSERT_EQ(survivor.try_push(Job::of(i)), Status::ready);
    LeaseRing::Lease lease;
    ASSERT_EQ(dead.try_lease(lease), Status::ready);
  }
  EXPECT_EQ(f.word(0).state(), LeaseState::abandoned);
  f.table.kill(f.me.self());
  EXPECT_EQ(survivor.push(Job::of(99), Deadline::after(10s)), Status::ready);
  EXPECT_EQ(survivor.count().waiting, capacity);
}

TEST(TaskQueue, repair_is_idempotent_and_leaves_the_living_alone) {
  Fixture f;
  Queue living = f.open(f.other);
  LeaseRing dead = f.ring(f.me);
  for (std::uint64_t i = 0; i < 6; ++i) ASSERT_EQ(living.try_push(Job::of(i)), Status::ready);
  LeaseRing::Lease lease;
  LeaseRing::Reservation slot;
  ASSERT_EQ(dead.try_lease(lease), Status::ready);
  Task<Job> mine = living.try_pop();
  ASSERT_EQ(dead.try_reserve(slot), Status::ready);
  f.table.kill(f.me.self());
  const auto image = [&] {
    std::vector<std::uint64_t> words;
    for (std::uint64_t i = 0; i < capacity; ++i) words.push_back(f.word(i).bits());
    return words;
  };
  LeaseRing::repair(f.block.span(), f.table.dead_of(f.me.self()));
  const auto once = image();
  EXPECT_EQ(f.word(0), LeaseWord(1, 1, nobody, LeaseState::requeue));
  EXPECT_EQ(f.word(6), LeaseWord(1, 0, nobody, LeaseState::free));
  LeaseRing::repair(f.block.span(), f.table.dead_of(f.me.self()));
  EXPECT_EQ(image(), once);
  EXPECT_EQ(mine.complete(), Status::ready);
}

// A recoverer that slept through the whole recovery and the joining of a newcomer.
TEST(TaskQueue, a_late_recoverer_does_not_touch_a_newcomer) {
  Fixture f;
  Queue queue = f.open(f.me);
  ASSERT_EQ(queue.try_push(Job::of(0)), Status::ready);
  const Dead stale = f.table.dead_of(f.me.self());
  f.table.kill(f.me.self());
  LeaseRing::repair(f.block.span(), stale);
  f.table.rejoin(f.me.self());
  Task<Job> task = queue.try_pop();
  ASSERT_TRUE(task);
  LeaseRing::repair(f.block.span(), stale);
  EXPECT_EQ(task.complete(), Status::ready);
}

// All at once, in a ring that is mostly leased: producers that linger in FILLING, cancel or die
// there; workers that hold many leases, complete or fail them late, or die with them; and newcomers
// at the places of the dead while late recoverers may still be at work.
TEST(TaskQueue, accounts_for_everything_while_threads_die_holding_slots) {
  constexpr std::uint64_t threads = 4, steps = 4'000;
  Fixture f(laps_end - 100);
  std::vector<std::atomic<int>> pushed(threads * steps), done(threads * steps);
  std::atomic<int> torn{0}, refused{0};
  const auto live = [&](std::uint64_t number) {
    FakePeers self(f.table, static_cast<std::uint32_t>(number));
    std::mt19937_64 random(number);
    LeaseRing ring = f.ring(self);
    std::vector<std::pair<LeaseRing::Reservation, std::uint64_t>> filling;
    std::vector<LeaseRing::Lease> held;
    for (std::uint64_t step = 0; step < steps; ++step) {
      const std::uint64_t id = number * steps + step;
      if (LeaseRing::Reservation slot; ring.try_reserve(slot) == Status::ready) {
        fill(slot, id);
        filling.emplace_back(slot, id);
      }
      if (LeaseRing::Lease lease; ring.try_lease(lease) == Status::ready) held.push_back(lease);
      if (random() % 8 == 0) std::this_thread::yield();
      while (filling.size() > random() % 8) {
        const auto [slot, job] = filling.back();
        filling.pop_back();
        const bool commit = random() % 8 != 0;
        if (commit) ++pushed[job];
        if ((commit ? slot.commit() : slot.cancel()) != Status::ready) ++refused;
      }
      while (held.size() > random() % 24) {
        const LeaseRing::Lease lease = held.back();
        held.pop_back();
        const auto& job = *reinterpret_cast<const Job*>(lease.payload());
        if (!job.whole()) ++torn;
        const bool complete = random() % 4 != 0;
        if (complete) ++done[job.number];
        if ((complete ? lease.complete() : lease.give_back()) != Status::ready) ++refused;
      }
      if (random() % 64 == 0) {  // dies; others repair when they look; is born again
        f.table.kill(self.self());
        LeaseRing::repair(f.block.span(), f.table.dead_of(self.self()));
        f.table.rejoin(self.self());
        filling.clear();
        held.clear();
      }
    }
    f.table.kill(self.self());
  };
  std::vector<std::thread> running(threads);
  for (std::uint64_t i = 0; i < threads; ++i) running[i] = std::thread(live, i);
  for (auto& thread : running) thread.join();

  FakePeers last(f.table, threads);
  Queue queue = f.open(last);
  ASSERT_EQ(queue.close(), Status::ready);
  Task<Job> task;
  while ((task = queue.pop(Deadline::after(10s)))) {
    ++done[task.payload().number];
    ASSERT_EQ(task.complete(), Status::ready);
  }
  EXPECT_EQ(task.status(), Status::closed);
  EXPECT_EQ(torn, 0);
  EXPECT_EQ(refused, 0);
  int delivered = 0;
  for (std::uint64_t i = 0; i < pushed.size(); ++i) {
    ASSERT_EQ(pushed[i], done[i]) << i;
    delivered += done[i];
  }
  EXPECT_GT(delivered, 1000);
  EXPECT_TRUE(f.all_free());
}

// ---- close

TEST(TaskQueue, close_refuses_pushes_and_lets_consumers_drain) {
  Fixture f;
  Queue queue = f.open(f.me);
  for (std::uint64_t i = 0; i < 3; ++i) ASSERT_EQ(queue.try_push(Job::of(i)), Status::ready);
  EXPECT_FALSE(queue.is_closed());
  EXPECT_EQ(queue.close(), Status::ready);
  EXPECT_EQ(queue.close(), Status::ready);
  EXPECT_TRUE(queue.is_closed());
  EXPECT_EQ(queue.try_push(Job::of(9)), Status::closed);
  EXPECT_EQ(queue.push(Job::of(9)), Status::closed);
  for (std::uint64_t i = 0; i < 3; ++i) {
    Task<Job> task = queue.pop();
    ASSERT_TRUE(task);
    EXPECT_EQ(task.payload().number, i);
    ASSERT_EQ(task.complete(), Status::ready);
  }
  EXPECT_EQ(queue.pop().status(), Status::closed);
  EXPECT_EQ(queue.try_pop().status(), Status::closed);
  EXPECT_EQ(f.open(f.other).pop().status(), Status::closed);
}

TEST(TaskQueue, is_not_drained_while_a_lease_may_come_back) {
  Fixture f;
  Queue worker = f.open(f.me), drainer = f.open(f.other);
  for (std::uint64_t i = 0; i < 2; ++i) ASSERT_EQ(worker.try_push(Job::of(i)), Status::ready);
  Task<Job> first = worker.try_pop(), second = worker.try_pop();
  ASSERT_EQ(worker.close(), Status::ready);
  EXPECT_EQ(drainer.try_pop().status(), Status::empty);
  EXPECT_EQ(drainer.pop(Deadline::after(2ms)).status(), Status::timeout);
  ASSERT_EQ(first.complete(), Status::ready);
  EXPECT_EQ(drainer.try_pop().status(), Status::empty);
  ASSERT_EQ(second.fail(), Status::ready);
  Task<Job> task = drainer.try_pop();
  ASSERT_TRUE(task);
  EXPECT_EQ(worker.try_pop().status(), Status::empty);
  ASSERT_EQ(task.complete(), Status::ready);
  EXPECT_EQ(worker.try_pop().status(), Status::closed);
}

TEST(TaskQueue, is_not_drained_while_a_push_is_under_way) {
  for (const bool gone_past : {false, true}) {
    Fixture f;
    LeaseRing producer = f.ring(f.me);
    Queue drainer = f.open(f.other);
    LeaseRing::Reservation slot;
    ASSERT_EQ(producer.try_reserve(slot), Status::ready);
    if (gone_past) {
      ASSERT_EQ(drainer.try_push(Job::of(1)), Status::ready);
      ASSERT_EQ(drainer.try_pop().complete(), Status::ready);
    }
    ASSERT_EQ(drainer.close(), Status::ready);
    EXPECT_EQ(drainer.try_pop().status(), Status::empty);
    fill(slot, 8);
    EXPECT_EQ(slot.commit(), Status::ready);
    Task<Job> task = drainer.try_pop();
    ASSERT_TRUE(task);
    EXPECT_EQ(task.payload().number, 8U);
    ASSERT_EQ(task.complete(), Status::ready);
    EXPECT_EQ(drainer.try_pop().status(), Status::closed);
  }
}

TEST(TaskQueue, the_dead_do_not_keep_a_closed_queue_from_being_drained) {
  Fixture f;
  LeaseRing dead = f.ring(f.me);
  Queue drainer = f.open(f.other);
  ASSERT_EQ(drainer.try_push(Job::of(5)), Status::ready);
  LeaseRing::Lease lease;
  ASSERT_EQ(dead.try_lease(lease), Status::ready);
  LeaseRing::Reservation slot;
  ASSERT_EQ(dead.try_reserve(slot), Status::ready);
  ASSERT_EQ(drainer.close(), Status::ready);
  f.table.kill(f.me.self());
  Task<Job> task = drainer.pop(Deadline::after(10s));
  ASSERT_TRUE(task);
  EXPECT_EQ(task.payload().number, 5U);
  ASSERT_EQ(task.complete(), Status::ready);
  EXPECT_EQ(drainer.pop(Deadline::after(10s)).status(), Status::closed);
}

// QUEUE-5
TEST(TaskQueue, a_push_that_races_with_close_is_delivered_or_refused) {
  for (int round = 0; round < 300; ++round) {
    Fixture f;
    const Queue original = f.open(f.me);
    std::atomic<int> accepted{0}, delivered{0}, running{0};
    std::vector<std::thread> threads;
    threads.reserve(4);
    for (int p = 0; p < 2; ++p) {
      threads.emplace_back([&, queue = original]() mutable {
        ++running;
        while (queue.push(Job::of(1)) == Status::ready) ++accepted;
      });
    }
    for (int c = 0; c < 2; ++c) {
      threads.emplace_back([&, queue = original]() mutable {
        while (Task<Job> task = queue.pop()) {
          ++delivered;
          EXPECT_EQ(task.complete(), Status::ready);
        }
      });
    }
    ASSERT_TRUE(eventually([&] { return running == 2 && accepted > round; }));
    Queue closer = original;
    ASSERT_EQ(closer.close(), Status::ready);
    for (auto& thread : threads) thread.join();
    ASSERT_EQ(accepted, delivered);
    ASSERT_TRUE(f.all_free());
  }
}

// ---- sleeping. What is asked is whether a wake-up was given: a lost one would be made good for
// by the sleeper's own clock.

struct Sleeper {
  template <class Body>
  Sleeper(Event& event, Body&& body) : thread(std::forward<Body>(body)) {
    EXPECT_TRUE(eventually([&] { return Fixture::has_sleeper(event); }));
  }
  ~Sleeper() { thread.join(); }
  std::thread thread;
};

Queue sleepy(Queue queue) {
  queue.wait_strategy(WaitStrategy::sleep);
  return queue;
}

TEST(TaskQueue, a_push_wakes_a_sleeping_consumer) {
  Fixture f;
  Queue producer = f.open(f.me);
  Event& event = f.header().not_empty;
  Sleeper sleeper(event, [queue = sleepy(f.open(f.other))]() mutable {
    Task<Job> task = queue.pop(Deadline::after(10s));
    EXPECT_TRUE(task);
  });
  const std::uint32_t before = Fixture::wakes(event);
  ASSERT_EQ(producer.try_push(Job::of(1)), Status::ready);
  EXPECT_NE(Fixture::wakes(event), before);
}

TEST(TaskQueue, a_returned_or_late_task_wakes_a_sleeping_consumer) {
  for (const bool late : {false, true}) {
    Fixture f;
    Queue worker = f.open(f.me);
    LeaseRing producer = f.ring(f.me);
    LeaseRing::Reservation slot;
    ASSERT_EQ(producer.try_reserve(slot), Status::ready);
    fill(slot, 2);
    ASSERT_EQ(worker.try_push(Job::of(1)), Status::ready);
    Task<Job> task = worker.try_pop();
    ASSERT_TRUE(task);
    Event& event = f.header().not_empty;
    Sleeper sleeper(event, [queue = sleepy(f.open(f.other))]() mutable {
      EXPECT_TRUE(queue.pop(Deadline::after(10s)));
    });
    const std::uint32_t before = Fixture::wakes(event);
    ASSERT_EQ(late ? slot.commit() : task.fail(), Status::ready);
    EXPECT_NE(Fixture::wakes(event), before);
  }
}

TEST(TaskQueue, a_completion_wakes_a_sleeping_producer) {
  Fixture f;
  Queue queue = f.open(f.me);
  for (std::uint64_t i = 0; i < capacity; ++i) ASSERT_EQ(queue.try_push(Job::of(i)), Status::ready);
  Event& event = f.header().not_full;
  Sleeper sleeper(event, [other = sleepy(f.open(f.other))]() mutable {
    EXPECT_EQ(other.push(Job::of(99), Deadline::after(10s)), Status::ready);
  });
  Task<Job> task = queue.try_pop();
  const std::uint32_t before = Fixture::wakes(event);
  ASSERT_EQ(task.complete(), Status::ready);
  EXPECT_NE(Fixture::wakes(event), before);
}

// QUEUE-6. A long lease in slot 3 ends while the ring is full, behind three tasks not yet leased:
// its slot cannot be used, and whoever leases the last of the three opens the way to it.
TEST(TaskQueue, a_slot_freed_out_of_order_wakes_producers_when_the_way_to_it_opens) {
  Fixture f;
  Queue queue = f.open(f.me);
  std::uint64_t pushed = 0;
  const auto push_until_full = [&] {
    while (queue.try_push(Job::of(pushed)) == Status::ready) ++pushed;
  };
  for (; pushed < 4; ++pushed) ASSERT_EQ(queue.try_push(Job::of(pushed)), Status::ready);
  for (int i = 0; i < 3; ++i) ASSERT_EQ(queue.try_pop().complete(), Status::ready);
  Task<Job> lasting = queue.try_pop();
  push_until_full();
  for (int i = 0; i < 60; ++i) ASSERT_EQ(queue.try_pop().complete(), Status::ready);
  push_until_full();
  ASSERT_EQ(f.word(0).state(), LeaseState::queued);
  ASSERT_EQ(lasting.complete(), Status::ready);
  ASSERT_EQ(queue.try_push(Job::of(0)), Status::full);

  Event& event = f.header().not_full;
  Sleeper sleeper(event, [other = sleepy(f.open(f.other))]() mutable {
    EXPECT_EQ(other.push(Job::of(99), Deadline::after(10s)), Status::ready);
  });
  const std::uint32_t before = Fixture::wakes(event);
  Task<Job> first = queue.try_pop(), second = queue.try_pop();
  EXPECT_EQ(Fixture::wakes(event), before);  // the third is in the way
  Task<Job> third = queue.try_pop();
  EXPECT_NE(Fixture::wakes(event), before);
}

// The same, where a producer has stopped in slot 0 and the long lease was in slot 1.
TEST(TaskQueue, going_past_a_stopped_producer_wakes_those_that_it_kept_from_free_slots) {
  Fixture f;
  Queue queue = f.open(f.me);
  LeaseRing stopped = f.ring(f.third);
  std::uint64_t pushed = 0;
  const auto push_until_full = [&] {
    while (queue.try_push(Job::of(pushed)) == Status::ready) ++pushed;
  };
  for (; pushed < capacity; ++pushed) ASSERT_EQ(queue.try_push(Job::of(pushed)), Status::ready);
  ASSERT_EQ(queue.try_pop().complete(), Status::ready);
  Task<Job> lasting = queue.try_pop();
  LeaseRing::Reservation slot;
  ASSERT_EQ(stopped.try_reserve(slot), Status::ready);
  push_until_full();
  for (int i = 0; i < 62; ++i) ASSERT_EQ(queue.try_pop().complete(), Status::ready);
  push_until_full();
  ASSERT_EQ(f.word(0).state(), LeaseState::filling);
  ASSERT_EQ(lasting.complete(), Status::ready);

  Event& event = f.header().not_full;
  Sleeper sleeper(event, [other = sleepy(f.open(f.other))]() mutable {
    EXPECT_EQ(other.push(Job::of(99), Deadline::after(10s)), Status::ready);
  });
  const std::uint32_t before = Fixture::wakes(event);
  Task<Job> task = queue.try_pop();
  EXPECT_TRUE(task);
  EXPECT_EQ(f.word(0).state(), LeaseState::abandoned);
  EXPECT_NE(Fixture::wakes(event), before);
}

TEST(TaskQueue, a_cancelled_push_wakes_a_producer_that_it_was_in_the_way_of) {
  Fixture f;
  LeaseRing ring = f.ring(f.me);
  LeaseRing::Reservation slot;
  ASSERT_EQ(ring.try_reserve(slot), Status::ready);
  Queue queue = f.open(f.me);
  for (std::uint64_t i = 1; i < capacity; ++i) ASSERT_EQ(queue.try_push(Job::of(i)), Status::ready);
  Event& event = f.header().not_full;
  Sleeper sleeper(event, [other = sleepy(f.open(f.other))]() mutable {
    EXPECT_EQ(other.push(Job::of(99), Deadline::after(10s)), Status::ready);
  });
  const std::uint32_t before = Fixture::wakes(event);
  ASSERT_EQ(slot.cancel(), Status::ready);
  EXPECT_NE(Fixture::wakes(event), before);
}

TEST(TaskQueue, close_wakes_sleeping_producers_and_consumers) {
  {
    Fixture f;
    Sleeper sleeper(f.header().not_empty, [queue = sleepy(f.open(f.other))]() mutable {
      EXPECT_EQ(queue.pop().status(), Status::closed);
    });
    const std::uint32_t before = Fixture::wakes(f.header().not_empty);
    ASSERT_EQ(f.open(f.me).close(), Status::ready);
    EXPECT_NE(Fixture::wakes(f.header().not_empty), before);
  }
  Fixture f;
  Queue queue = f.open(f.me);
  for (std::uint64_t i = 0; i < capacity; ++i) ASSERT_EQ(queue.try_push(Job::of(i)), Status::ready);
  Sleeper sleeper(f.header().not_full, [other = sleepy(f.open(f.other))]() mutable {
    EXPECT_EQ(other.push(Job::of(1)), Status::closed);
  });
  const std::uint32_t before = Fixture::wakes(f.header().not_full);
  ASSERT_EQ(queue.close(), Status::ready);
  EXPECT_NE(Fixture::wakes(f.header().not_full), before);
}

TEST(TaskQueue, the_last_completion_on_a_closed_queue_wakes_the_drainers) {
  Fixture f;
  Queue worker = f.open(f.me);
  ASSERT_EQ(worker.try_push(Job::of(1)), Status::ready);
  Task<Job> last = worker.try_pop();
  ASSERT_EQ(worker.close(), Status::ready);
  Event& event = f.header().not_empty;
  Sleeper sleeper(event, [queue = sleepy(f.open(f.other))]() mutable {
    EXPECT_EQ(queue.pop().status(), Status::closed);
  });
  const std::uint32_t before = Fixture::wakes(event);
  ASSERT_EQ(last.complete(), Status::ready);
  EXPECT_NE(Fixture::wakes(event), before);
}

TEST(TaskQueue, recovery_wakes_everybody) {
  Fixture f;
  Event& event = f.header().not_empty;
  Sleeper sleeper(event, [queue = sleepy(f.open(f.other))]() mutable {
    EXPECT_EQ(queue.pop().status(), Status::closed);
  });
  const std::uint32_t before = Fixture::wakes(event);
  f.table.kill(f.me.self());
  LeaseRing::repair(f.block.span(), f.table.dead_of(f.me.self()));
  EXPECT_NE(Fixture::wakes(event), before);
  ASSERT_EQ(f.open(f.third).close(), Status::ready);
}

// ---- handles

TEST(TaskQueue, handles_of_a_forked_child_answer_closed) {
  Fixture f;
  FakePeers child(f.table, 0);
  Queue parents = f.open(f.me), childs = f.open(child);
  LeaseRing ring = f.ring(child);
  ASSERT_EQ(childs.try_push(Job::of(1)), Status::ready);
  ASSERT_EQ(childs.try_push(Job::of(2)), Status::ready);
  LeaseRing::Reservation slot;
  ASSERT_EQ(ring.try_reserve(slot), Status::ready);
  {
    Task<Job> completed = childs.try_pop(), dropped = childs.try_pop();
    child.forked();
    EXPECT_EQ(childs.try_push(Job::of(1)), Status::closed);
    EXPECT_EQ(childs.push(Job::of(1)), Status::closed);
    EXPECT_EQ(childs.try_pop().status(), Status::closed);
    EXPECT_EQ(childs.pop().status(), Status::closed);
    EXPECT_EQ(childs.close(), Status::closed);
    EXPECT_EQ(slot.commit(), Status::closed);
    EXPECT_EQ(slot.cancel(), Status::closed);
    EXPECT_EQ(completed.complete(), Status::closed);
  }
  EXPECT_EQ(parents.count().leased, 2U);  // still the parent's
  EXPECT_EQ(parents.count().filling, 1U);
  EXPECT_FALSE(parents.is_closed());
}

TEST(TaskQueue, refuses_options_that_cannot_work) {
  for (const std::uint32_t bad : {0U, 1U, 32U, 63U, 65U, 100U, 1U << 25, ~0U}) {
    try {
      static_cast<void>(Queue::bytes({bad}));
      ADD_FAILURE() << bad;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::invalid_argument);
      EXPECT_NE(std::string(error.what()).find(std::to_string(bad)), std::string::npos);
    }
  }
  EXPECT_EQ(Queue::bytes({64}), 320U + 64U * 80U);
  EXPECT_GT(Queue::bytes({1U << 24}), std::size_t{80} << 24);
}

TEST(TaskQueue, refuses_a_damaged_header) {
  const auto refuses = [](auto&& damage) {
    Fixture f;
    damage(f.header());
    try {
      f.open(f.me);
      return false;
    } catch (const Error& error) {
      return error.code() == Errc::corrupt;
    }
  };
  EXPECT_FALSE(refuses([](LeaseRingHeader&) {}));
  EXPECT_TRUE(refuses([](LeaseRingHeader& h) { h.capacity = 0; }));
  EXPECT_TRUE(refuses([](LeaseRingHeader& h) { h.capacity = 65; }));
  EXPECT_TRUE(refuses([](LeaseRingHeader& h) { h.capacity = 128; }));  // more than the memory holds
  EXPECT_TRUE(refuses([](LeaseRingHeader& h) { h.capacity = 1U << 31; }));
  EXPECT_TRUE(refuses([](LeaseRingHeader& h) { h.payload_bytes = 63; }));
  EXPECT_TRUE(refuses([](LeaseRingHeader& h) { h.payload_bytes = ~0U; }));
  EXPECT_TRUE(refuses([](LeaseRingHeader& h) { h.payload_alignment = 0; }));
  EXPECT_TRUE(refuses([](LeaseRingHeader& h) { h.payload_alignment = 16; }));
  Fixture f;
  EXPECT_THROW(Queue(f.block.span().first(100), f.me), Error);
  EXPECT_THROW(TaskQueue<int>(f.block.span(), f.me), Error);
}

// QUEUE-2
TEST(TaskQueue, old_hints_are_only_slower) {
  Fixture f;
  std::mt19937_64 random(3);
  std::vector<Task<Job>> held;
  std::uint64_t pushed = 0, popped = 0;
  for (int round = 0; round < 5000; ++round) {
    // Handles that know nothing but the hints, and those are from any time before.
    f.header().tail.store(random() % (f.header().tail.load(relaxed) + 1), relaxed);
    f.header().head.store(random() % (f.header().head.load(relaxed) + 1), relaxed);
    Queue producer = f.open(f.me), consumer = f.open(f.other);
    for (std::uint64_t i = random() % 20; i != 0; --i) {
      const Status status = producer.try_push(Job::of(pushed));
      if (status == Status::ready) ++pushed;
      if (status == Status::full) {
        ASSERT_GE(pushed - popped + held.size(), capacity / 2);
      }
    }
    for (std::uint64_t i = random() % 20; i != 0; --i) {
      Task<Job> task = consumer.try_pop();
      ASSERT_EQ(task.status(), popped == pushed ? Status::empty : Status::ready);
      if (!task) break;
      ASSERT_EQ(task.payload().number, popped++);
      if (random() % 8 == 0 && held.size() < 16) {
        held.push_back(std::move(task));
      } else {
        ASSERT_EQ(task.complete(), Status::ready);
      }
    }
    if (!held.empty() && random() % 4 == 0) {
      std::swap(held[random() % held.size()], held.back());
      ASSERT_EQ(held.back().complete(), Status::ready);
      held.pop_back();
    }
  }
  EXPECT_GT(popped, 1000U);
}

// A word's cycle says less of consumers than of producers: these went past the long lease.
TEST(TaskQueue, consumers_do_not_jump_over_tasks_behind_a_skipped_slot) {
  Fixture f;
  Queue queue = f.open(f.me);
  for (std::uint64_t i = 0; i < capacity; ++i) ASSERT_EQ(queue.try_push(Job::of(i)), Status::ready);
  const Task<Job> lasting = queue.try_pop();
  ASSERT_EQ(queue.try_push(Job::of(99)), Status::full);
  ASSERT_EQ(f.word(0).cycle(), 2U);
  for (std::uint64_t i = 1; i < 5; ++i) ASSERT_EQ(queue.try_pop().complete(), Status::ready);
  f.header().head.store(0, relaxed);
  Task<Job> next = f.open(f.other).try_pop();
  ASSERT_TRUE(next);
  EXPECT_EQ(next.payload().number, 5U);
}

TEST(TaskQueue, producers_do_not_jump_over_tickets_that_nobody_has_pushed) {
  Fixture f;
  Queue queue = f.open(f.me);
  for (std::uint64_t i = 0; i < 2; ++i) {
    ASSERT_EQ(queue.try_push(Job::of(i)), Status::ready);
    ASSERT_EQ(queue.try_pop().complete(), Status::ready);
  }
  f.header().tail.store(0, relaxed);
  ASSERT_EQ(f.open(f.other).try_push(Job::of(2)), Status::ready);
  Task<Job> next = queue.try_pop();
  ASSERT_TRUE(next);
  EXPECT_EQ(next.payload().number, 2U);
}

struct Deaf final : Peers {  // finds nobody dead
  Deaf() : Peers(Owner::at(0), &here) {}
  bool recover_if_dead(Owner) noexcept override { return false; }
  std::uint32_t here = 1;
};

TEST(TaskQueue, ends_every_call_in_damaged_memory) {
  std::mt19937_64 random(1);
  Deaf me;
  for (int round = 0; round < 2000; ++round) {
    Fixture f;
    const std::uint64_t spread = std::uint64_t{1} << random() % 41;
    for (std::uint64_t i = 0; i < capacity; ++i) {
      const std::uint64_t cycle = random() % spread & LeaseWord::cycle_mask;
      f.slot(i).store(cycle << 24 | (random() & 0xffffff), relaxed);
    }
    f.header().tail.store(random() >> random() % 64, relaxed);
    f.header().head.store(random() >> random() % 64, relaxed);
    f.header().returned.store(random() % 2, relaxed);
    if (random() % 4 == 0) f.header().phase.store(random() % 4 & ~0U, relaxed);
    Queue queue = f.open(me);
    for (std::uint64_t i = 0; i < 2 * capacity; ++i) {
      static_cast<void>(queue.try_push(Job::of(i)));
      static_cast<void>(queue.try_pop().complete());
    }
    static_cast<void>(queue.close());
    for (std::uint64_t i = 0; i < 2 * capacity; ++i) static_cast<void>(queue.try_pop().complete());
    f.table.kill(f.me.self());
    LeaseRing::repair(f.block.span(), f.table.dead_of(f.me.self()));
  }
}

TEST(TaskQueue, keeps_the_alignment_of_its_payload) {
  struct alignas(32) Wide {
    double lanes[5];
  };
  using WideQueue = TaskQueue<Wide>;
  Block block(WideQueue::bytes({64}));
  WideQueue::format(block.span(), {64});
  FakeTable table([&](const Dead& dead) { WideQueue::repair(block.span(), dead); });
  FakePeers me(table, 0);
  WideQueue queue(block.span(), me);
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(queue.try_push(Wide{{1.0 * i}}), Status::ready);
    Task<Wide> task = queue.try_pop();
    ASSERT_EQ(reinterpret_cast<std::uintptr_t>(&task.payload()) % 32, 0U);
    ASSERT_EQ(task.payload().lanes[0], i);
    ASSERT_EQ(task.complete(), Status::ready);
  }
}

TEST(TaskQueue, small_payloads_work) {
  using Bytes = TaskQueue<char>;
  Block block(Bytes::bytes({64}));
  Bytes::format(block.span(), {64});
  Deaf me;
  Bytes queue(block.span(), me);
  for (const char c : std::string("heddle")) ASSERT_EQ(queue.try_push(c), Status::ready);
  std::string text;
  while (Task<char> task = queue.try_pop()) {
    text += task.payload();
    ASSERT_EQ(task.complete(), Status::ready);
  }
  EXPECT_EQ(text, "heddle");
}

TEST(TaskQueue, allocates_nothing_on_its_hot_paths) {
  Fixture f;
  Queue queue = f.open(f.me);
  LeaseRing dead = f.ring(f.other);
  LeaseRing::Lease lease;
  const long before = test::allocations;
  for (std::uint64_t i = 0; i < 1000; ++i) {
    if (queue.push(Job::of(i)) != Status::ready) std::abort();
    Task<Job> task = queue.pop();
    if ((i % 2 == 0 ? task.complete() : task.fail()) != Status::ready) std::abort();
    if (i % 2 == 1 && queue.pop().complete() != Status::ready) std::abort();
  }
  if (queue.pop(Deadline::after(2ms)).status() != Status::timeout) std::abort();
  if (queue.try_push(Job::of(1)) != Status::ready) std::abort();
  if (dead.try_lease(lease) != Status::ready) std::abort();
  EXPECT_EQ(test::allocations, before);
}

}  // namespace
}  // namespace heddle

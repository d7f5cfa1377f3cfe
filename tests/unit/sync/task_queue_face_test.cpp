// What a TaskQueue takes and refuses: options, headers, bytes, reservations, many at a time, stats.

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstring>
#include <limits>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "heddle/shm/segment.hpp"
#include "heddle/sync/task_queue.hpp"
#include "support/allocations.hpp"
#include "support/job.hpp"
#include "support/process.hpp"
#include "support/queue_in_memory.hpp"

namespace heddle {
namespace {

using namespace std::chrono_literals;
using test::FakePeers;
using test::Job;

using Queue = TaskQueue<Job>;
using Bytes = TaskQueue<bytes>;
using Fixture = test::QueueInMemory<Job>;
using BytesFixture = test::QueueInMemory<bytes>;
static_assert(SharedObject<Queue> && SharedObject<Bytes>);

constexpr std::uint32_t capacity = 64;

std::span<const std::byte> as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text));
}
std::string as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// ---- options

template <class Q = Queue>
std::string refusal(const typename Q::Options& options) {
  try {
    static_cast<void>(Q::bytes(options));
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::invalid_argument);
    return error.what();
  }
  return "";
}

TEST(TaskQueueOptions, out_of_their_limits_are_refused_with_what_is_allowed) {
  EXPECT_EQ(refusal({.capacity = 100}),
            "task queue: the capacity must be a power of two from 64 to 16777216, not 100");
  EXPECT_EQ(refusal({.capacity = 32}),
            "task queue: the capacity must be a power of two from 64 to 16777216, not 32");
  EXPECT_EQ(refusal({.lanes = 0}), "task queue: it has at least one lane");
  EXPECT_EQ(refusal({.lanes = 9}), "task queue: lanes is at most 8, not 9");
  EXPECT_EQ(refusal({.max_tries = 1001}), "task queue: max_tries is at most 1000, not 1001");
  EXPECT_EQ(refusal({.lease_timeout = 1'000'000'001ms}),
            "task queue: lease_timeout is at most 1000000000, not 1000000001");
  EXPECT_EQ(refusal({.result_bytes = (1U << 30) + 1}),
            "task queue: result_bytes is at most 1073741824, not 1073741825");
  EXPECT_EQ(refusal({.result_bytes = 8, .results = 6}),
            "task queue: the number of results must be a power of two from 1 to 16777216, not 6");
  EXPECT_EQ(refusal({.result_bytes = 8, .results = 1U << 25}),
            "task queue: the number of results must be a power of two from 1 to 16777216, not "
            "33554432");
  EXPECT_NE(refusal<Bytes>({.payload_bytes = (1U << 30) + 1}), "");
  EXPECT_NE(refusal<Bytes>({.payload_bytes = ~0U}), "");
  EXPECT_NE(refusal({.lease_timeout = -1ms}), "");
}

TEST(TaskQueueOptions, at_their_limits_are_taken) {
  EXPECT_EQ(refusal({.capacity = 64}), "");
  EXPECT_EQ(refusal({.capacity = 1U << 24}), "");
  EXPECT_EQ(refusal({.lanes = 8}), "");
  EXPECT_EQ(refusal({.max_tries = 1000}), "");
  EXPECT_EQ(refusal({.lease_timeout = 1'000'000'000ms}), "");
  EXPECT_EQ(refusal({.capacity = 64, .result_bytes = 1U << 30, .results = 1}), "");
  EXPECT_EQ(refusal({.capacity = 64, .result_bytes = 1, .results = 1U << 24}), "");
  EXPECT_EQ(refusal<Bytes>({.payload_bytes = 0}), "");
  EXPECT_EQ(refusal<Bytes>({.payload_bytes = (1U << 30) - 8}), "");
}

TEST(TaskQueueOptions, that_are_not_asked_for_cost_nothing) {
  const std::size_t plain = Queue::bytes({.capacity = 64});
  EXPECT_EQ(plain, 320U + 64U * 80U);
  for (const Queue::Options& noted : {Queue::Options{.capacity = 64, .max_tries = 1},
                                      Queue::Options{.capacity = 64, .lease_timeout = 1ms},
                                      Queue::Options{.capacity = 64, .delays = true}}) {
    EXPECT_EQ(Queue::bytes(noted), plain + 64U * 64U);
  }
  EXPECT_EQ(Queue::bytes({.capacity = 64, .result_bytes = 20}), plain + 64U * (16U + 24U));
  EXPECT_EQ(Queue::bytes({.capacity = 64, .result_bytes = 20, .results = 8}), plain + 8U * 40U);
  EXPECT_EQ(Queue::bytes({.capacity = 64, .lanes = 3}), 3 * plain);
}

TEST(TaskQueueOptions, are_the_makers_and_found_by_who_opens_the_queue_later) {
  Segment segment = Segment::anonymous({.bytes = 64 << 10});
  const Queue::Options made{.capacity = 64,
                            .lanes = 2,
                            .max_tries = 3,
                            .lease_timeout = 5ms,
                            .result_bytes = 8,
                            .results = 16};
  static_cast<void>(segment.open<Queue>("queue", made));
  const Queue found = segment.find<Queue>("queue");
  EXPECT_EQ(found.capacity(), 64U);
  EXPECT_EQ(found.shape().lanes, 2U);
  EXPECT_EQ(found.shape().ring.max_tries, 3U);
  EXPECT_EQ(found.shape().ring.lease_timeout_ms, 5U);
  EXPECT_TRUE(found.shape().ring.notes);
  EXPECT_EQ(found.shape().result_bytes, 8U);
  EXPECT_EQ(found.shape().results, 16U);
  EXPECT_EQ(found.stats().capacity, 128U);
}

TEST(TaskQueueOptions, of_another_queue_are_a_type_mismatch) {
  Segment segment = Segment::anonymous({.bytes = 64 << 10});
  static_cast<void>(segment.open<Queue>("queue", {.capacity = 64}));
  const auto mismatch = [](auto&& open) {
    try {
      open();
    } catch (const Error& error) {
      return error.code() == Errc::type_mismatch &&
             std::string(error.what()).find("queue") != std::string::npos;
    }
    return false;
  };
  EXPECT_TRUE(mismatch([&] { static_cast<void>(segment.find<Bytes>("queue")); }));
  EXPECT_TRUE(mismatch([&] { static_cast<void>(segment.find<TaskQueue<int>>("queue")); }));
  EXPECT_TRUE(
      mismatch([&] { static_cast<void>(segment.open<Queue>("queue", {.capacity = 128})); }));
  EXPECT_TRUE(mismatch(
      [&] { static_cast<void>(segment.open<Queue>("queue", {.capacity = 64, .lanes = 2})); }));
  EXPECT_FALSE(
      mismatch([&] { static_cast<void>(segment.open<Queue>("queue", {.capacity = 64})); }));
}

// ---- damaged headers

TEST(TaskQueueHeader, that_is_damaged_is_refused) {
  const Queue::Options options{.capacity = 64,
                               .lanes = 2,
                               .max_tries = 3,
                               .lease_timeout = 5ms,
                               .result_bytes = 8,
                               .results = 16};
  const auto refuses = [&](auto&& damage) {
    Fixture f(options);
    damage(f.header());
    try {
      f.open(f.me);
      return false;
    } catch (const Error& error) {
      return error.code() == Errc::corrupt;
    }
  };
  using Header = LeaseRingHeader;
  EXPECT_FALSE(refuses([](Header&) {}));
  EXPECT_TRUE(refuses([](Header& h) { h.lanes = 0; }));
  EXPECT_TRUE(refuses([](Header& h) { h.lanes = 9; }));
  EXPECT_TRUE(refuses([](Header& h) { h.lanes = 3; }));  // more than the memory holds
  EXPECT_TRUE(refuses([](Header& h) { h.lanes = ~0U; }));
  EXPECT_TRUE(refuses([](Header& h) { h.notes = 2; }));
  EXPECT_TRUE(
      refuses([](Header& h) { h.notes = 0; }));  // but max_tries and lease_timeout need them
  EXPECT_TRUE(refuses([](Header& h) { h.max_tries = 1001; }));
  EXPECT_TRUE(refuses([](Header& h) { h.lease_timeout_ms = 1'000'000'001; }));
  EXPECT_TRUE(refuses([](Header& h) { h.results = 15; }));
  EXPECT_TRUE(refuses([](Header& h) { h.results = 0; }));  // but they have bytes
  EXPECT_TRUE(refuses([](Header& h) { h.results = 1024; }));
  EXPECT_TRUE(refuses([](Header& h) { h.results = 1U << 31; }));
  EXPECT_TRUE(refuses([](Header& h) { h.result_bytes = ~0U; }));
  EXPECT_TRUE(refuses([](Header& h) { h.result_bytes = 1U << 20; }));
  EXPECT_TRUE(refuses([](Header& h) { h.payload_bytes = 8; }));
}

TEST(TaskQueueHeader, that_is_damaged_later_harms_neither_those_who_have_it_open_nor_repair) {
  Fixture f({.capacity = 64, .lanes = 2, .max_tries = 3, .result_bytes = 8});
  Queue queue = f.open(f.me);
  const Pushed pushed = queue.try_push(Job::of(1), {.lane = 1});
  ASSERT_TRUE(pushed);
  f.header().lanes = 7;
  f.header(1).capacity = 1U << 24;
  QueueCore::repair(f.block.span(),
                    f.table.dead_of(f.other.self()));  // finds nothing that it can mend
  Task<Job> task = queue.try_pop();
  ASSERT_TRUE(task);
  EXPECT_EQ(task.complete(std::uint64_t{5}), Status::ready);
  std::uint64_t result = 0;
  EXPECT_EQ(queue.result(pushed.id, result), Status::ready);
  EXPECT_EQ(result, 5U);
}

// Lengths that lie: of a payload and of a result.
TEST(TaskQueueHeader, is_not_all_that_can_be_damaged_lengths_are_cut_to_what_there_is) {
  BytesFixture f({.payload_bytes = 16, .capacity = 64, .result_bytes = 8});
  Bytes queue = f.open(f.me);
  const Pushed pushed = queue.try_push(as_bytes("sixteen bytes ok"));
  ASSERT_TRUE(pushed);
  const std::uint32_t lie = ~0U;
  std::memcpy(reinterpret_cast<std::byte*>(&f.slot(0)) + f.shape.ring.payload_at(), &lie,
              sizeof lie);
  Task<bytes> task = queue.try_pop();
  ASSERT_TRUE(task);
  EXPECT_EQ(task.payload().size(), 16U);
  ASSERT_EQ(task.complete(std::uint64_t{5}), Status::ready);
  auto* entry = f.block.span().data() + f.shape.ring.bytes();
  std::memcpy(entry + 12, &lie, sizeof lie);
  std::array<std::byte, 64> room{};
  std::size_t length = 0;
  ASSERT_EQ(queue.result(pushed.id, room, length), Status::ready);
  EXPECT_EQ(length, 8U);
}

// ---- bytes

TEST(TaskQueueBytes, carry_payloads_of_any_length_up_to_theirs) {
  BytesFixture f({.payload_bytes = 20, .capacity = 64});
  Bytes queue = f.open(f.me);
  const std::string longest = "exactly twenty bytes";
  for (std::size_t length = 0; length <= longest.size(); ++length) {
    ASSERT_EQ(queue.push(as_bytes(longest.substr(0, length))).status, Status::ready);
    Task<bytes> task = queue.try_pop();
    EXPECT_EQ(as_text(task.payload()), longest.substr(0, length));
    ASSERT_EQ(task.complete(), Status::ready);
  }
  ASSERT_EQ(queue.push({}).status, Status::ready);
  EXPECT_TRUE(queue.try_pop().payload().empty());
}

TEST(TaskQueueBytes, that_are_too_many_are_refused) {
  for (const std::uint32_t most : {0U, 1U, 20U}) {
    BytesFixture f({.payload_bytes = most, .capacity = 64});
    Bytes queue = f.open(f.me);
    const std::string text(most + 1, 'x');
    EXPECT_EQ(queue.push(as_bytes(text)).status, Status::invalid);
    EXPECT_EQ(queue.try_push(as_bytes(text)).status, Status::invalid);
    EXPECT_TRUE(f.all_free());
    EXPECT_EQ(queue.stats().pushed, 0U);
    ASSERT_EQ(queue.push(as_bytes(text.substr(1))).status, Status::ready);
    EXPECT_EQ(as_text(queue.try_pop().payload()), text.substr(1));
  }
}

TEST(TaskQueueBytes, come_back_whole_when_their_worker_fails) {
  BytesFixture f({.payload_bytes = 100, .capacity = 64, .lanes = 2, .max_tries = 3});
  Bytes queue = f.open(f.me);
  const Pushed pushed = queue.push(as_bytes("the same bytes"), Deadline::never(), {.lane = 1});
  for (std::uint64_t i = 1; i <= 3; ++i) {
    Task<bytes> task = queue.try_pop();
    EXPECT_EQ(task.id(), pushed.id);
    EXPECT_EQ(as_text(task.payload()), "the same bytes");
    ASSERT_EQ(task.fail(), Status::ready);
  }
  EXPECT_EQ(queue.dead_letters().size(), 1U);
}

// ---- reservations

TEST(TaskQueueReservation, is_filled_in_place_and_pushed_by_commit) {
  Fixture f({.capacity = 64});
  Queue queue = f.open(f.me);
  Reservation<Job> slot = queue.reserve();
  ASSERT_TRUE(slot);
  EXPECT_EQ(queue.try_pop().status(), Status::empty);
  EXPECT_EQ(queue.count().filling, 1U);
  slot.payload() = Job::of(5);
  const Pushed pushed = slot.commit();
  ASSERT_TRUE(pushed);
  EXPECT_FALSE(slot);
  Task<Job> task = queue.try_pop();
  EXPECT_EQ(task.id(), pushed.id);
  EXPECT_EQ(task.payload().number, 5U);
  EXPECT_TRUE(task.payload().whole());
}

TEST(TaskQueueReservation, of_bytes_has_room_for_the_longest_and_pushes_the_first_of_them) {
  BytesFixture f({.payload_bytes = 20, .capacity = 64});
  Bytes queue = f.open(f.me);
  Reservation<bytes> slot = queue.reserve();
  ASSERT_TRUE(slot);
  ASSERT_EQ(slot.payload().size(), 20U);
  std::memcpy(slot.payload().data(), "in place and unused", 20);
  EXPECT_EQ(slot.commit(21).status, Status::invalid);
  EXPECT_EQ(slot.commit(std::numeric_limits<std::size_t>::max()).status, Status::invalid);
  EXPECT_EQ(slot.commit((std::size_t{1} << 32) + 1).status, Status::invalid);
  ASSERT_TRUE(slot) << "it can still be pushed";
  ASSERT_TRUE(slot.commit(8));
  EXPECT_EQ(as_text(queue.try_pop().payload()), "in place");
}

TEST(TaskQueueReservation, that_is_abandoned_or_dropped_leaves_nothing_behind) {
  Fixture f({.capacity = 64});
  Queue queue = f.open(f.me);
  for (std::uint64_t i = 0; i < 3 * capacity; ++i) {
    if (i % 2 == 0) {
      const Reservation<Job> dropped = queue.reserve();
      ASSERT_TRUE(dropped);
    } else {
      Reservation<Job> slot = queue.reserve();
      slot.abandon();
      EXPECT_FALSE(slot);
      slot.abandon();
      EXPECT_EQ(slot.commit().status, Status::closed);
    }
    EXPECT_EQ(queue.try_pop().status(), Status::empty);
    EXPECT_TRUE(f.all_free());
  }
  ASSERT_TRUE(queue.push(Job::of(1)));
  EXPECT_TRUE(queue.try_pop());
}

TEST(TaskQueueReservation, is_pushed_once) {
  Fixture f({.capacity = 64});
  Queue queue = f.open(f.me);
  Reservation<Job> slot = queue.reserve();
  slot.payload() = Job::of(1);
  ASSERT_TRUE(slot.commit());
  EXPECT_EQ(slot.commit().status, Status::closed);
  slot.abandon();
  EXPECT_EQ(queue.count().waiting, 1U);
}

TEST(TaskQueueReservation, that_is_moved_is_held_once) {
  Fixture f({.capacity = 64});
  Queue queue = f.open(f.me);
  std::optional<Reservation<Job>> first(queue.reserve());
  Reservation<Job> second(std::move(*first));
  EXPECT_FALSE(*first);
  EXPECT_EQ(first->commit().status, Status::closed);
  first.reset();
  EXPECT_EQ(queue.count().filling, 1U);
  second.payload() = Job::of(3);
  ASSERT_TRUE(second.commit());
  EXPECT_EQ(queue.try_pop().payload().number, 3U);
}

TEST(TaskQueueReservation, waits_for_room_until_its_deadline_and_hears_of_the_close) {
  Fixture f({.capacity = 64, .lanes = 2, .delays = true});
  Queue queue = f.open(f.me);
  for (std::uint64_t i = 0; i < capacity; ++i) ASSERT_TRUE(queue.try_push(Job::of(i), {.lane = 1}));
  EXPECT_EQ(queue.reserve(Deadline::after(1ms), {.lane = 1}).status(), Status::timeout);
  Reservation<Job> slot = queue.reserve(Deadline::never(), {.lane = 0, .delay = 1h});
  ASSERT_TRUE(slot);
  ASSERT_EQ(queue.close(), Status::ready);
  EXPECT_EQ(queue.reserve().status(), Status::closed);
  slot.payload() = Job::of(99);
  const Pushed pushed = slot.commit();
  ASSERT_TRUE(pushed) << "it was begun before";
  EXPECT_EQ(pushed.id % 2, 0U);
  for (std::uint64_t i = 0; i < capacity; ++i) {
    Task<Job> task = queue.try_pop();
    EXPECT_EQ(task.payload().number, i) << "the other is not due";
    ASSERT_EQ(task.complete(), Status::ready);
  }
  EXPECT_EQ(queue.try_pop().status(), Status::empty);
  f.make_due(0, 0);
  EXPECT_EQ(queue.pop(Deadline::after(test::patience)).id(), pushed.id);
}

TEST(TaskQueueReservation, of_a_dead_producer_is_free_again) {
  Fixture f({.capacity = 64});
  Queue queue = f.open(f.other);
  LeaseRing ring = f.ring(f.me);
  LeaseRing::Reservation slot;
  ASSERT_EQ(ring.try_reserve(slot), Status::ready);
  f.kill(f.me);
  ASSERT_EQ(queue.close(), Status::ready);
  EXPECT_EQ(queue.pop(Deadline::after(test::patience)).status(), Status::closed);
  EXPECT_TRUE(f.all_free());
}

// ---- tasks

TEST(TaskQueueTask, outlives_the_queue_it_came_from_with_result_and_reason) {
  Fixture f({.capacity = 64, .max_tries = 1, .result_bytes = 8});
  Queue queue = f.open(f.me);
  auto gone = std::make_unique<Queue>(f.open(f.other));
  const Pushed a = queue.push(Job::of(1)), b = queue.push(Job::of(2));
  Task<Job> first = gone->try_pop(), second = gone->try_pop();
  gone.reset();
  EXPECT_EQ(first.payload().number, 1U);
  EXPECT_EQ(first.complete(std::uint64_t{11}), Status::ready);
  EXPECT_EQ(second.fail("alone"), Status::ready);
  std::uint64_t result = 0;
  EXPECT_EQ(queue.result(a.id, result), Status::ready);
  EXPECT_EQ(result, 11U);
  ASSERT_EQ(queue.dead_letters().size(), 1U);
  EXPECT_EQ(queue.dead_letters()[0].id, b.id);
  EXPECT_EQ(queue.dead_letters()[0].reason, "alone");
}

TEST(TaskQueueTask, that_is_moved_takes_lane_and_results_along) {
  Fixture f({.capacity = 64, .lanes = 3, .result_bytes = 8});
  Queue queue = f.open(f.me);
  const Pushed pushed = queue.push(Job::of(1), Deadline::never(), {.lane = 2});
  Task<Job> first = queue.try_pop();
  Task<Job> second(std::move(first));
  Task<Job> third;
  third = std::move(second);
  EXPECT_FALSE(first);   // NOLINT(bugprone-use-after-move): that it is empty is the claim
  EXPECT_FALSE(second);  // NOLINT(bugprone-use-after-move)
  EXPECT_EQ(first.complete(), Status::lost_lease);
  EXPECT_EQ(second.extend(), Status::lost_lease);
  ASSERT_TRUE(third);
  EXPECT_EQ(third.id(), pushed.id);
  EXPECT_EQ(third.complete(std::uint64_t{9}), Status::ready);
  std::uint64_t result = 0;
  EXPECT_EQ(queue.result(pushed.id, result), Status::ready);
  EXPECT_EQ(result, 9U);
}

TEST(TaskQueueTask, has_one_end_whatever_is_called_after_it) {
  const auto ends = [](auto&& end) {
    Fixture f({.capacity = 64, .max_tries = 5, .result_bytes = 8});
    Queue queue = f.open(f.me);
    EXPECT_TRUE(queue.push(Job::of(1)));
    Task<Job> task = queue.try_pop();
    EXPECT_EQ(end(task), Status::ready);
    EXPECT_FALSE(task);
    EXPECT_EQ(task.status(), Status::lost_lease);
    const LeaseWord before = f.word(0);
    EXPECT_EQ(task.complete(), Status::lost_lease);
    EXPECT_EQ(task.complete(std::uint64_t{1}), Status::lost_lease);
    EXPECT_EQ(task.fail("x"), Status::lost_lease);
    EXPECT_EQ(task.release(), Status::lost_lease);
    EXPECT_EQ(task.extend(), Status::lost_lease);
    EXPECT_EQ(f.word(0), before);
  };
  ends([](Task<Job>& task) { return task.complete(); });
  ends([](Task<Job>& task) { return task.complete(std::uint64_t{1}); });
  ends([](Task<Job>& task) { return task.fail("why"); });
  ends([](Task<Job>& task) { return task.release(); });
}

TEST(TaskQueueTask, that_is_nothing_answers_so) {
  Task<Job> task;
  EXPECT_FALSE(task);
  EXPECT_EQ(task.complete(), Status::lost_lease);
  EXPECT_EQ(task.fail(), Status::lost_lease);
  EXPECT_EQ(task.release(), Status::lost_lease);
  EXPECT_EQ(task.extend(), Status::lost_lease);
}

TEST(TaskQueueTask, of_a_forked_child_ends_nothing) {
  Fixture f({.capacity = 64, .max_tries = 5, .result_bytes = 8});
  FakePeers child(f.table, 0);
  Queue queue = f.open(child);
  std::vector<Task<Job>> tasks;
  for (std::uint64_t i = 0; i < 5; ++i) {
    ASSERT_TRUE(queue.push(Job::of(i)));
    tasks.push_back(queue.try_pop());
  }
  Reservation<Job> slot = queue.reserve();
  child.forked();
  EXPECT_EQ(tasks[0].complete(std::uint64_t{1}), Status::closed);
  EXPECT_EQ(tasks[1].fail("why"), Status::closed);
  EXPECT_EQ(tasks[2].release(), Status::closed);
  EXPECT_EQ(tasks[3].extend(), Status::closed);
  EXPECT_EQ(slot.commit().status, Status::closed);
  tasks.clear();
  EXPECT_EQ(queue.count().leased, 5U);
  EXPECT_EQ(queue.count().filling, 1U);
}

// ---- many at a time

TEST(TaskQueueMany, are_pushed_in_order_until_there_is_no_room) {
  Fixture f({.capacity = 64, .lanes = 2});
  Queue queue = f.open(f.me);
  std::vector<Job> jobs;
  for (std::uint64_t i = 0; i < 100; ++i) jobs.push_back(Job::of(i));
  EXPECT_EQ(queue.push_n({}), std::pair(std::size_t{0}, Status::ready));
  EXPECT_EQ(queue.push_n(std::span(jobs).first(10)), std::pair(std::size_t{10}, Status::ready));
  EXPECT_EQ(queue.push_n(std::span(jobs).subspan(10), Deadline::now()),
            std::pair(std::size_t{54}, Status::timeout));
  for (std::uint64_t i = 0; i < 64; ++i) {
    Task<Job> task = queue.try_pop();
    EXPECT_EQ(task.payload().number, i);
    EXPECT_EQ(task.id(), 2 * i);
    ASSERT_EQ(task.complete(), Status::ready);
  }
  ASSERT_EQ(queue.close(), Status::ready);
  EXPECT_EQ(queue.push_n(jobs), std::pair(std::size_t{0}, Status::closed));
}

TEST(TaskQueueMany, are_popped_as_many_as_there_are) {
  Fixture f({.capacity = 64, .lanes = 2});
  Queue queue = f.open(f.me);
  std::array<Task<Job>, 4> tasks;
  EXPECT_EQ(queue.pop_n({}), std::pair(std::size_t{0}, Status::ready));
  EXPECT_EQ(queue.pop_n(tasks, Deadline::after(1ms)), std::pair(std::size_t{0}, Status::timeout));
  for (std::uint32_t i = 0; i < 7; ++i) {
    ASSERT_TRUE(queue.try_push(Job::of(i), {.lane = i < 5 ? 1U : 0U}));
  }
  ASSERT_EQ(queue.pop_n(tasks), std::pair(std::size_t{4}, Status::ready));
  std::vector<std::uint64_t> numbers;
  for (Task<Job>& task : tasks) {
    numbers.push_back(task.payload().number);
    ASSERT_EQ(task.complete(), Status::ready);
  }
  EXPECT_EQ(numbers, (std::vector<std::uint64_t>{5, 6, 0, 1}));
  ASSERT_EQ(queue.pop_n(tasks), std::pair(std::size_t{3}, Status::ready));
  EXPECT_FALSE(tasks[3]);
  for (int i = 0; i < 3; ++i) ASSERT_EQ(tasks[i].complete(), Status::ready);
  ASSERT_EQ(queue.close(), Status::ready);
  EXPECT_EQ(queue.pop_n(tasks), std::pair(std::size_t{0}, Status::closed));
  EXPECT_TRUE(f.all_free());
}

TEST(TaskQueueMany, that_are_popped_over_held_ones_give_those_back) {
  Fixture f({.capacity = 64});
  Queue queue = f.open(f.me);
  for (std::uint64_t i = 0; i < 4; ++i) ASSERT_TRUE(queue.push(Job::of(i)));
  std::array<Task<Job>, 2> tasks;
  ASSERT_EQ(queue.pop_n(tasks).first, 2U);
  ASSERT_EQ(queue.pop_n(tasks).first, 2U);
  EXPECT_EQ(queue.count().leased, 2U);
  EXPECT_EQ(queue.count().waiting, 2U);
}

// ---- stats

TEST(TaskQueueStats, count_what_is_there_and_what_has_come_to_pass) {
  Fixture f({.capacity = 64, .lanes = 2, .max_tries = 2, .lease_timeout = 1h, .result_bytes = 8});
  Queue queue = f.open(f.me);
  for (std::uint32_t i = 0; i < 10; ++i)
    ASSERT_TRUE(queue.push(Job::of(i), Deadline::never(), {i % 2}));
  Reservation<Job> slot = queue.reserve();
  Task<Job> leased = queue.try_pop();
  ASSERT_EQ(queue.try_pop().fail(), Status::ready);
  QueueStats stats = queue.stats();
  EXPECT_EQ(stats.pushed, 11U);
  EXPECT_EQ(stats.popped, 2U);
  EXPECT_EQ(stats.capacity, 128U);
  EXPECT_EQ(stats.now.waiting, 9U);
  EXPECT_EQ(stats.now.leased, 1U);
  EXPECT_EQ(stats.now.filling, 1U);
  EXPECT_EQ(stats.now.dead, 0U);
  EXPECT_EQ(stats.now.retried, 1U);
  EXPECT_FALSE(stats.closed);
  slot.abandon();
  ASSERT_EQ(leased.complete(), Status::ready);
  std::vector<Task<Job>> held;
  while (Task<Job> task = queue.try_pop()) held.push_back(std::move(task));
  EXPECT_EQ(queue.stats().now.leased, 9U);
  EXPECT_EQ(queue.stats().now.retried, 1U);
  for (Task<Job>& task : held) ASSERT_EQ(task.fail(), Status::ready);
  stats = queue.stats();
  EXPECT_EQ(stats.now.dead, 1U);
  EXPECT_EQ(stats.died, 1U);
  EXPECT_EQ(stats.now.waiting, 8U);
  EXPECT_EQ(stats.now.retried, 8U);
  ASSERT_EQ(queue.close(), Status::ready);
  EXPECT_TRUE(queue.stats().closed);
}

TEST(TaskQueueStats, count_long_leases_and_stopped_producers_that_were_gone_past) {
  Fixture f({.capacity = 64});
  Queue queue = f.open(f.me);
  ASSERT_TRUE(queue.push(Job::of(0)));
  const Task<Job> lasting = queue.try_pop();
  Reservation<Job> stopped = queue.reserve();
  for (std::uint64_t i = 0; i < 2 * capacity; ++i) {
    ASSERT_TRUE(queue.push(Job::of(i)));
    ASSERT_EQ(queue.try_pop().complete(), Status::ready);
  }
  const QueueStats stats = queue.stats();
  EXPECT_EQ(stats.abandoned, 1U);
  EXPECT_GE(stats.skipped, 2U);
  EXPECT_EQ(stats.now.leased, 1U);
  EXPECT_EQ(stats.now.filling, 1U);
}

TEST(TaskQueueHotPaths, of_bytes_and_reservations_allocate_nothing) {
  BytesFixture f({.payload_bytes = 64,
                  .capacity = 64,
                  .lanes = 2,
                  .max_tries = 2,
                  .lease_timeout = 1h,
                  .result_bytes = 16});
  Bytes queue = f.open(f.me);
  std::array<Task<bytes>, 3> tasks;
  const long before = test::allocations;
  for (std::uint64_t i = 0; i < 200; ++i) {
    if (!queue.push(as_bytes("some bytes"), Deadline::never(), {.lane = 1})) std::abort();
    if (!queue.try_push(as_bytes("later"), {.delay = 1ns})) std::abort();
    Reservation<bytes> slot = queue.reserve();
    if (!slot.commit(3)) std::abort();
    queue.reserve().abandon();
    for (int left = 3; left > 0;) {
      const auto [count, status] = queue.pop_n(tasks, Deadline::after(1s));
      if (status != Status::ready) std::abort();
      for (std::size_t k = 0; k < count; ++k, --left) {
        if (tasks[k].complete(as_bytes("done")) != Status::ready) std::abort();
      }
    }
  }
  EXPECT_EQ(test::allocations, before);
}

}  // namespace
}  // namespace heddle

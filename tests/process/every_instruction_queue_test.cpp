// As every_instruction_test.cpp, for what a queue does with notes, results, dead letters and lanes: the
// operation's process is killed after each instruction, and it was done wholly or not at all.

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "heddle/shm/segment.hpp"
#include "heddle/sync/task_queue.hpp"
#include "support/every_instruction.hpp"
#include "support/single_step.hpp"
#include "support/value.hpp"

namespace heddle {
namespace {

using namespace std::chrono_literals;
using test::a_nap;
using test::Death;
using test::Finder;
using test::kill_everywhere;
using test::long_enough;
using test::Scene;
using test::SingleStepped;
using test::Value;

class EveryInstructionOfQueues : public test::EveryInstructionTest {};
INSTANTIATE_TEST_SUITE_P(Found, EveryInstructionOfQueues,
                         testing::Values(Finder::waiter, Finder::recover_dead),
                         EveryInstructionOfQueues::name);

struct NotedQueue : Scene {
  using Queue = TaskQueue<Value>;
  static constexpr std::uint32_t capacity = 64;
  static constexpr std::uint64_t from_child = 1000, from_survivor = 2000;

  NotedQueue(Finder who, const Queue::Options& options)
      : Scene(who, {.bytes = (12 << 10) + Queue::bytes(options), .participants = 3, .objects = 2}),
        queue(segment.open<Queue>("queue", options)) {}
  static Queue::Options tries(std::uint32_t most) {
    return {.capacity = capacity, .max_tries = most, .result_bytes = sizeof(Value), .results = 4};
  }
  Queue theirs(Segment& own) const { return own.find<Queue>("queue"); }

  template <class Operation>
  void child_does(Operation&& operation) {
    Segment own = join();
    Queue from = theirs(own);
    SingleStepped::begin();
    operation(from);
    SingleStepped::end();
  }
  /// The child has the task, and ends it.
  template <class End>
  void child_ends(End&& end) {
    Segment own = join();
    Queue from = theirs(own);
    Task<Value> task = from.pop();
    if (!task || task.payload().number != 0) _exit(9);
    SingleStepped::begin();
    end(task);
    SingleStepped::end();
  }

  TaskId push(std::uint64_t number, PushOptions how = {}) {
    const Pushed pushed = queue.try_push(Value::of(number), how);
    EXPECT_EQ(pushed.status, Status::ready);
    return pushed.id;
  }
  void leave_a_consumer_asleep() {
    queue.wait_strategy(WaitStrategy::sleep);
    EXPECT_EQ(queue.pop(a_nap()).status(), Status::timeout);
    queue.wait_strategy(WaitStrategy::adaptive);
  }
  /// Whoever waits so long has looked for the dead, and found them: a queue does so every 10 ms.
  static Deadline after_a_look() { return Deadline::after(11ms); }
  void nothing_is_to_be_had() { EXPECT_EQ(queue.pop(after_a_look()).status(), Status::timeout); }
  Status look(TaskId id, std::uint64_t& number) {
    Value value{};
    const Status got = queue.result(id, value, Deadline::now());
    EXPECT_TRUE(got != Status::ready || value.whole());
    number = value.number;
    return got;
  }
  /// Each slot is filled once more, and the queue closed and drained.
  void all_slots_are_there() {
    for (std::uint32_t lane = 0; lane < queue.shape().lanes; ++lane) {
      for (std::uint64_t i = 0; i < capacity; ++i) {
        EXPECT_EQ(queue.try_push(Value::of(i), {.lane = lane}).status, Status::ready)
            << "slot " << i << " of lane " << lane << " is lost";
      }
      EXPECT_EQ(queue.try_push(Value::of(0), {.lane = lane}).status, Status::full);
    }
    EXPECT_EQ(queue.close(), Status::ready);
    Task<Value> task;
    while ((task = queue.pop(long_enough()))) {
      EXPECT_TRUE(task.payload().whole());
      EXPECT_EQ(task.tries(), 1U);
      EXPECT_EQ(task.complete(), Status::ready);
    }
    EXPECT_EQ(task.status(), Status::closed);
    const LeaseCounts left = queue.count();
    EXPECT_EQ(left.filling + left.waiting + left.leased + left.dead, 0U);
    nobody_else_is_left();
  }

  Queue queue;
};

// ---- the ends of a task

struct CompleteWithResult : NotedQueue {
  explicit CompleteWithResult(Finder who) : NotedQueue(who, tries(0)), id(push(0)) {}
  void child() {
    const Value value = Value::of(from_child);
    child_ends([&](Task<Value>& task) { (void)task.complete(value); });
  }
  void meet() {
    queue.wait_strategy(WaitStrategy::sleep);
    Value value{};
    EXPECT_EQ(queue.result(id, value, a_nap()), Status::timeout);
    queue.wait_strategy(WaitStrategy::adaptive);
  }
  void survive(const Death& death) {
    find_dead();
    std::uint64_t first = 0;
    const bool published = look(id, first) == Status::ready;
    Task<Value> again = queue.pop(after_a_look());
    EXPECT_TRUE(death.allows(!again));
    EXPECT_TRUE(published || again) << "the task has ended, and its result is not there";
    if (again) {
      EXPECT_EQ(again.id(), id);
      EXPECT_EQ(again.tries(), 2U);
      EXPECT_EQ(again.complete(Value::of(from_survivor)), Status::ready);
    }
    std::uint64_t number = 0;
    EXPECT_EQ(look(id, number), Status::ready);
    EXPECT_EQ(number, published ? from_child : from_survivor) << "the first result stays";
    EXPECT_TRUE(death.allows(published));
    all_slots_are_there();
  }
  TaskId id;
};

TEST_P(EveryInstructionOfQueues, of_complete_with_a_result) {  // QUEUE-1 RESULT-1 RESULT-2
  kill_everywhere([] { return CompleteWithResult(GetParam()); });
}

// The entry that the child's result takes is another's: it goes, or it stays as it was.
struct CompleteOverAnOldResult : NotedQueue {
  explicit CompleteOverAnOldResult(Finder who) : NotedQueue(who, tries(0)) {
    for (std::uint64_t i = 0; i < 4; ++i) {
      old = push(i);
      EXPECT_EQ(queue.pop().complete(Value::of(i)), Status::ready);
    }
    old -= 3;
    id = push(0);
  }
  void child() {
    const Value value = Value::of(from_child);
    child_ends([&](Task<Value>& task) { (void)task.complete(value); });
  }
  void survive(const Death& death) {
    std::uint64_t number = 0;
    const Status of_old = look(old, number);
    EXPECT_TRUE(of_old == Status::ready || of_old == Status::expired) << to_string(of_old);
    EXPECT_TRUE(of_old == Status::expired || number == 0U);
    EXPECT_TRUE(death.allows(of_old == Status::expired));
    find_dead();
    if (Task<Value> again = queue.pop(after_a_look())) {
      EXPECT_EQ(again.complete(Value::of(from_survivor)), Status::ready);
    }
    EXPECT_EQ(look(old, number), Status::expired);
    EXPECT_EQ(look(id, number), Status::ready);
    EXPECT_TRUE(number == from_child || number == from_survivor) << number;
    all_slots_are_there();
  }
  TaskId old = 0, id = 0;
};

TEST_P(EveryInstructionOfQueues,
       of_complete_over_the_result_of_an_older_task) {  // RESULT-2 RESULT-3
  kill_everywhere([] { return CompleteOverAnOldResult(GetParam()); });
}

struct FailForAnotherTry : NotedQueue {
  explicit FailForAnotherTry(Finder who) : NotedQueue(who, tries(3)), id(push(0)) {}
  void child() {
    child_ends([](Task<Value>& task) { (void)task.fail("no"); });
  }
  void meet() { leave_a_consumer_asleep(); }
  void survive(const Death& /*death*/) {
    find_dead();
    Task<Value> again = queue.pop(long_enough());
    EXPECT_EQ(again.id(), id);
    EXPECT_EQ(again.tries(), 2U);
    EXPECT_EQ(again.complete(Value::of(from_survivor)), Status::ready);
    EXPECT_EQ(queue.stats().died, 0U);
    all_slots_are_there();
  }
  TaskId id;
};

TEST_P(EveryInstructionOfQueues, of_fail_for_another_try) {  // QUEUE-4
  kill_everywhere([] { return FailForAnotherTry(GetParam()); });
}

struct FailForGood : NotedQueue {
  explicit FailForGood(Finder who) : NotedQueue(who, tries(1)), id(push(0)) {}
  void child() {
    child_ends([](Task<Value>& task) { (void)task.fail("no, and no"); });
  }
  void survive(const Death& death) {
    find_dead();
    nothing_is_to_be_had();
    const std::vector<DeadLetter> letters = queue.dead_letters();
    ASSERT_EQ(letters.size(), 1U) << "its last try is over, however it died";
    EXPECT_EQ(letters[0].id, id);
    EXPECT_EQ(letters[0].tries, 1U);
    EXPECT_TRUE(letters[0].reason.empty() || letters[0].reason == "no, and no");
    EXPECT_TRUE(death.allows(!letters[0].reason.empty()));
    std::uint64_t number = 0;
    EXPECT_EQ(look(id, number), Status::failed);
    EXPECT_EQ(queue.drop(id), Status::ready);
    all_slots_are_there();
  }
  TaskId id;
};

TEST_P(EveryInstructionOfQueues, of_fail_at_the_last_try) {
  kill_everywhere([] { return FailForGood(GetParam()); });
}

struct Release : NotedQueue {
  Release(Finder who, std::uint32_t most) : NotedQueue(who, tries(most)), id(push(0)) {}
  void child() {
    child_ends([](Task<Value>& task) { (void)task.release(); });
  }
  void survive(const Death& /*death*/) {
    find_dead();
    if (queue.shape().ring.max_tries == 1) {
      nothing_is_to_be_had();
      EXPECT_EQ(queue.drop(id), Status::ready);
    } else {
      EXPECT_EQ(queue.pop(long_enough()).complete(), Status::ready);
    }
    all_slots_are_there();
  }
  TaskId id;
};

TEST_P(EveryInstructionOfQueues, of_release_for_another_try) {
  kill_everywhere([] { return Release(GetParam(), 2); });
}
TEST_P(EveryInstructionOfQueues, of_release_at_the_last_try) {
  kill_everywhere([] { return Release(GetParam(), 1); });
}

// ---- dead letters

struct Letter : NotedQueue {
  static constexpr std::uint32_t most = 2;
  explicit Letter(Finder who) : NotedQueue(who, tries(most)), id(push(0)) {
    for (std::uint32_t i = 0; i < most; ++i) EXPECT_EQ(queue.pop().fail("no"), Status::ready);
  }
  /// Whether it still is a dead letter, and nothing else.
  bool is_there() {
    const LeaseCounts now = queue.count();
    EXPECT_EQ(now.leased + now.filling, 0U);
    EXPECT_LE(now.dead + now.waiting, 1U);
    const std::vector<DeadLetter> letters = queue.dead_letters();
    EXPECT_EQ(letters.size(), now.dead);
    EXPECT_TRUE(letters.empty() || letters[0].id == id);
    return !letters.empty();
  }
  TaskId id;
};

struct Retry : Letter {
  using Letter::Letter;
  void child() {
    child_does([&](Queue& from) { (void)from.retry(id); });
  }
  void meet() { leave_a_consumer_asleep(); }
  void survive(const Death& death) {
    find_dead();
    Task<Value> task = queue.pop(after_a_look());
    EXPECT_TRUE(death.allows(static_cast<bool>(task)));
    if (!task) {
      EXPECT_TRUE(is_there());
      EXPECT_EQ(queue.retry(id), Status::ready);
      task = queue.pop(long_enough());
    }
    EXPECT_EQ(task.id(), id);
    EXPECT_TRUE(task.payload().whole());
    EXPECT_EQ(task.complete(Value::of(from_survivor)), Status::ready);
    std::uint64_t number = 0;
    EXPECT_EQ(look(id, number), Status::ready);
    all_slots_are_there();
  }
};

TEST_P(EveryInstructionOfQueues, of_retry) {  // QUEUE-4
  kill_everywhere([] { return Retry(GetParam()); });
}

struct RetryWhenDrained : Letter {
  explicit RetryWhenDrained(Finder who) : Letter(who) {
    EXPECT_EQ(queue.close(), Status::ready);
    EXPECT_EQ(queue.pop().status(), Status::closed);
  }
  void child() {
    child_does([&](Queue& from) { (void)from.retry(id); });
  }
  void survive(const Death& death) {
    find_dead();
    nobody_else_is_left();
    EXPECT_EQ(queue.pop(long_enough()).status(), Status::closed) << "it was said, and stays";
    EXPECT_TRUE(is_there());
    if (death.never_began() || death.ended) {
      EXPECT_EQ(queue.dead_letters()[0].reason, "no");
      EXPECT_EQ(queue.dead_letters()[0].tries, most);
    }
    EXPECT_EQ(queue.reopen(), Status::ready);
    EXPECT_EQ(queue.retry(id), Status::ready);
    EXPECT_EQ(queue.pop(long_enough()).complete(), Status::ready);
    all_slots_are_there();
  }
};

TEST_P(EveryInstructionOfQueues, of_retry_in_a_drained_queue) {  // QUEUE-5
  kill_everywhere([] { return RetryWhenDrained(GetParam()); });
}

struct Drop : Letter {
  using Letter::Letter;
  void child() {
    child_does([&](Queue& from) { (void)from.drop(id); });
  }
  void survive(const Death& death) {
    find_dead();
    nothing_is_to_be_had();
    const bool stayed = is_there();
    EXPECT_TRUE(death.allows(!stayed));
    std::uint64_t number = 0;
    EXPECT_EQ(look(id, number), Status::failed);
    EXPECT_EQ(queue.drop(id), stayed ? Status::ready : Status::empty);
    EXPECT_EQ(look(id, number), Status::failed);
    all_slots_are_there();
  }
};

TEST_P(EveryInstructionOfQueues, of_drop) {  // RESULT-1
  kill_everywhere([] { return Drop(GetParam()); });
}

// ---- producers

struct ReserveAndCommit : NotedQueue {
  explicit ReserveAndCommit(Finder who)
      : NotedQueue(who, {.capacity = capacity, .lanes = 2, .delays = true}) {
    leave_a_consumer_asleep();
  }
  void child() {
    child_does([](Queue& to) {
      Reservation<Value> slot = to.reserve(Deadline::never(), {.lane = 1});
      slot.payload() = Value::of(from_child);
      (void)slot.commit();
    });
  }
  void survive(const Death& death) {
    find_dead();
    push(1, {.lane = 1});
    std::vector<std::uint64_t> numbers;
    for (int looks = 0; looks < 2; ++looks) {
      while (Task<Value> task = queue.pop(after_a_look())) {
        EXPECT_TRUE(task.payload().whole());
        EXPECT_EQ(task.id() % 2, 1U);
        numbers.push_back(task.payload().number);
        EXPECT_EQ(task.complete(), Status::ready);
      }
      nobody_else_is_left();
    }
    const bool is_there = numbers.size() == 2;
    EXPECT_EQ(numbers, is_there ? std::vector({from_child, std::uint64_t{1}})
                                : std::vector({std::uint64_t{1}}));
    EXPECT_TRUE(death.allows(is_there));
    all_slots_are_there();
  }
};

TEST_P(EveryInstructionOfQueues, of_reserve_and_commit) {  // QUEUE-1 QUEUE-2
  kill_everywhere([] { return ReserveAndCommit(GetParam()); });
}

struct ReserveAndAbandon : NotedQueue {
  explicit ReserveAndAbandon(Finder who)
      : NotedQueue(who, {.capacity = capacity, .delays = true}) {}
  void child() {
    child_does([](Queue& to) { to.reserve().abandon(); });
  }
  void survive(const Death& /*death*/) {
    find_dead();
    nothing_is_to_be_had();
    EXPECT_EQ(queue.count().filling, 0U);
    all_slots_are_there();
  }
};

TEST_P(EveryInstructionOfQueues, of_reserve_and_abandon) {
  kill_everywhere([] { return ReserveAndAbandon(GetParam()); });
}

// ---- consumers

// The first task is not due: the child puts it aside, and takes the second.
struct PopPastADelay : NotedQueue {
  explicit PopPastADelay(Finder who)
      : NotedQueue(who, {.capacity = capacity, .lease_timeout = 1h, .delays = true}) {
    push(0, {.delay = 1h});
    push(1);
  }
  void child() {
    child_does([](Queue& from) { (void)from.pop(); });
  }
  void survive(const Death& death) {
    find_dead();
    Task<Value> task = queue.pop(long_enough());
    EXPECT_EQ(task.payload().number, 1U);
    EXPECT_TRUE(task.tries() == 1 || task.tries() == 2) << task.tries();
    // The child dropped its task, so its end is a return.
    EXPECT_TRUE(death.allows(task.tries() == 2));
    EXPECT_EQ(task.complete(), Status::ready);
    nothing_is_to_be_had();
    EXPECT_EQ(queue.count().waiting, 1U) << "the other is not due";
    nobody_else_is_left();
  }
};

TEST_P(EveryInstructionOfQueues, of_pop_past_a_task_that_is_not_due) {  // QUEUE-2 QUEUE-4
  kill_everywhere([] { return PopPastADelay(GetParam()); });
}

// This process has a task for longer than it may: the child takes it.
struct Expire : NotedQueue {
  explicit Expire(Finder who)
      : NotedQueue(who, {.capacity = capacity, .lease_timeout = 1ms}), id(push(0)) {
    mine = queue.pop();
    // Only it can make itself late: the child is to find that at its first look.
    const std::int64_t leased = monotonic_ns();
    while (monotonic_ns() - leased < 3'000'000) {
    }
  }
  void child() {
    child_does([](Queue& from) { (void)from.pop(Deadline::now()); });
  }
  void survive(const Death& death) {
    find_dead();
    const Status ended = mine.complete();
    EXPECT_TRUE(ended == Status::ready || ended == Status::lost_lease) << to_string(ended);
    EXPECT_TRUE(death.allows(ended == Status::lost_lease));
    if (ended == Status::lost_lease) {
      Task<Value> task = queue.pop(long_enough());
      EXPECT_EQ(task.id(), id);
      EXPECT_TRUE(task.tries() == 2 || task.tries() == 3) << task.tries();
      EXPECT_EQ(task.complete(), Status::ready);
    }
    nothing_is_to_be_had();
    EXPECT_EQ(queue.count().leased + queue.count().waiting, 0U);
    nobody_else_is_left();
  }
  TaskId id;
  Task<Value> mine;
};

TEST_P(EveryInstructionOfQueues, of_taking_the_task_of_one_who_is_late) {  // QUEUE-3 QUEUE-4
  kill_everywhere([] { return Expire(GetParam()); });
}

// Reading leaves nothing behind but that it was read.
struct ReadResult : NotedQueue {
  explicit ReadResult(Finder who) : NotedQueue(who, tries(0)), id(push(0)) {
    EXPECT_EQ(queue.pop().complete(Value::of(from_survivor)), Status::ready);
  }
  void child() {
    Value value{};
    child_does([&](Queue& from) { (void)from.result(id, value, Deadline::now()); });
  }
  void survive(const Death& death) {
    find_dead();
    for (std::uint64_t i = 0; i < 3; ++i) {
      push(1);
      EXPECT_EQ(queue.pop().complete(), Status::ready);
    }
    EXPECT_EQ(queue.stats().results_expired, 0U);
    push(1);
    EXPECT_EQ(queue.pop().complete(), Status::ready);
    EXPECT_TRUE(death.allows(queue.stats().results_expired == 0)) << "it was read, or not";
    all_slots_are_there();
  }
  TaskId id;
};

TEST_P(EveryInstructionOfQueues, of_reading_a_result) {
  kill_everywhere([] { return ReadResult(GetParam()); });
}

// ---- all lanes

struct CloseOrReopen : NotedQueue {
  CloseOrReopen(Finder who, bool open_again)
      : NotedQueue(who, {.capacity = capacity, .lanes = 3}), reopens(open_again) {
    if (reopens) {
      EXPECT_EQ(queue.close(), Status::ready);
      EXPECT_EQ(queue.pop().status(), Status::closed);
    } else {
      leave_a_consumer_asleep();
    }
  }
  void child() {
    child_does([&](Queue& of) { (void)(reopens ? of.reopen() : of.close()); });
  }
  void survive(const Death& death) {
    find_dead();
    const bool done = queue.is_closed() != reopens;
    EXPECT_TRUE(death.allows(done));
    for (std::uint32_t lane = 0; lane < 3 && done; ++lane) {
      EXPECT_EQ(queue.try_push(Value::of(lane), {.lane = lane}).status,
                reopens ? Status::ready : Status::closed)
          << "of lane " << lane << " it is not true";
    }
    // Whoever does it again has done it.
    EXPECT_EQ(reopens ? queue.reopen() : queue.close(), Status::ready);
    while (Task<Value> task = queue.try_pop()) EXPECT_EQ(task.complete(), Status::ready);
    EXPECT_EQ(queue.pop(after_a_look()).status(), reopens ? Status::timeout : Status::closed);
    if (!reopens) {
      EXPECT_EQ(queue.reopen(), Status::ready);
    }
    all_slots_are_there();
  }
  bool reopens;
};

TEST_P(EveryInstructionOfQueues, of_closing_all_lanes) {  // QUEUE-5
  kill_everywhere([] { return CloseOrReopen(GetParam(), false); });
}
TEST_P(EveryInstructionOfQueues, of_reopening_all_lanes) {  // QUEUE-5
  kill_everywhere([] { return CloseOrReopen(GetParam(), true); });
}

}  // namespace
}  // namespace heddle

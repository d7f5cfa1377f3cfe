// Each operation is done by a process that is killed after its first instruction, after its second,
// and so on to its end. Each time the survivors go on, and the operation was done wholly or not at
// all: this is what every header claims under "On death". The survivors are this process.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <numeric>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "heddle/shm/segment.hpp"
#include "heddle/shm/segment_file.hpp"
#include "heddle/shm/shared_buffer.hpp"
#include "heddle/sync/barrier.hpp"
#include "heddle/sync/board.hpp"
#include "heddle/sync/collective.hpp"
#include "heddle/sync/slot.hpp"
#include "heddle/sync/task_queue.hpp"
#include "support/every_instruction.hpp"
#include "support/one_of_everything.hpp"
#include "support/process.hpp"
#include "support/ring_of.hpp"
#include "support/single_step.hpp"
#include "support/value.hpp"

namespace heddle {
namespace {

using namespace std::chrono_literals;
using test::a_nap;
using test::Death;
using test::Finder;
using test::kill_everywhere;
using test::Line;
using test::long_enough;
using test::OneOfEverything;
using test::ring_of;
using test::Scene;
using test::SingleStepped;
using test::Value;

class EveryInstruction : public test::EveryInstructionTest {};
INSTANTIATE_TEST_SUITE_P(Found, EveryInstruction,
                         testing::Values(Finder::waiter, Finder::recover_dead),
                         EveryInstruction::name);

// ---- slot ---------------------------------------------------------------------------------------

struct SlotScene : Scene {
  SlotScene(Finder who, const Slot<Value>::Options& options)
      : Scene(who), slot(segment.open<Slot<Value>>("slot", options)) {}

  Slot<Value> theirs(Segment& own) const { return own.find<Slot<Value>>("slot"); }

  // The newest value, which carries its version.
  Version pull_whole() {
    Value value;
    const Reading reading = slot.pull(value);
    EXPECT_EQ(reading.status, Status::ready);
    EXPECT_TRUE(value.whole());
    EXPECT_EQ(value.number, reading.version);
    return reading.version;
  }
  // With two buffers, one lost is one too many.
  void publish_again_and_again(Slot<Value>::Publisher& publisher) {
    for (int i = 0; i < 4; ++i) {
      const Version next = slot.version() + 1;
      EXPECT_EQ(publisher.publish(Value::of(next)), Status::ready) << "a buffer is lost";
      EXPECT_EQ(pull_whole(), next);
    }
  }

  Slot<Value> slot;
};

struct Publish : SlotScene {
  explicit Publish(Finder who) : SlotScene(who, {.views = 0, .publishers = 2, .buffers = 2}) {
    EXPECT_EQ(publisher.publish(Value::of(1)), Status::ready);
    EXPECT_EQ(slot.wait_newer(1, a_nap(), WaitStrategy::sleep), Status::timeout);
  }
  void child() {
    Segment own = join();
    auto dying = theirs(own).publisher();
    const Value value = Value::of(2);
    SingleStepped::begin();
    (void)dying.publish(value);
    SingleStepped::end();
  }
  void survive(const Death& death) {
    const Version newest = pull_whole();
    EXPECT_TRUE(newest == 1 || newest == 2) << newest;
    EXPECT_TRUE(death.allows(newest == 2));
    find_dead();
    publish_again_and_again(publisher);
    EXPECT_EQ(slot.wait_newer(newest, long_enough()), Status::ready);
    auto other = slot.publisher();
    publish_again_and_again(other);
    nobody_else_is_left();
  }
  Slot<Value>::Publisher publisher = slot.publisher();
};

TEST_P(EveryInstruction, of_publish) {  // SLOT-1 SLOT-2
  kill_everywhere([] { return Publish(GetParam()); });
}

struct LoanAndCommit : Publish {
  using Publish::Publish;
  void child() {
    Segment own = join();
    auto dying = theirs(own).publisher();
    SingleStepped::begin();
    auto loan = dying.loan();
    *loan = Value::of(2);
    (void)loan.commit();
    SingleStepped::end();
  }
};

TEST_P(EveryInstruction, of_a_loan_and_its_commit) {  // SLOT-1 SLOT-2
  kill_everywhere([] { return LoanAndCommit(GetParam()); });
}

struct CompareAndPublish : Publish {
  using Publish::Publish;
  void child() {
    Segment own = join();
    auto dying = theirs(own).publisher();
    const Value value = Value::of(2);
    SingleStepped::begin();
    (void)dying.compare_and_publish(1, value);
    SingleStepped::end();
  }
};

TEST_P(EveryInstruction, of_compare_and_publish) {
  kill_everywhere([] { return CompareAndPublish(GetParam()); });
}

// Leaves a request behind, beside a publisher that sleeps.
struct Ask : SlotScene {
  explicit Ask(Finder who) : SlotScene(who, {.views = 0, .publishers = 1, .buffers = 2}) {
    EXPECT_EQ(publisher.publish(Value::of(1)), Status::ready);
    EXPECT_EQ(publisher.wait_for_request(a_nap(), WaitStrategy::sleep), Status::timeout);
  }
  void child() {
    Segment own = join();
    auto from = theirs(own);
    Value value;
    SingleStepped::begin();
    (void)from.pull_fresh(value, Deadline::now());
    SingleStepped::end();
  }
  void survive(const Death& death) {
    EXPECT_TRUE(death.allows(publisher.requested()));
    find_dead();
    EXPECT_TRUE(death.allows(publisher.requested()));  // it still is there, for nobody
    publish_again_and_again(publisher);
    EXPECT_FALSE(publisher.requested());
    nobody_else_is_left();
  }
  Slot<Value>::Publisher publisher = slot.publisher();
};

TEST_P(EveryInstruction, of_a_request) {  // SLOT-4
  kill_everywhere([] { return Ask(GetParam()); });
}

struct PublisherComesAndGoes : SlotScene {
  explicit PublisherComesAndGoes(Finder who)
      : SlotScene(who, {.views = 0, .publishers = 1, .buffers = 2}) {
    EXPECT_EQ(slot.publisher().publish(Value::of(1)), Status::ready);
  }
  void child() {
    Segment own = join();
    auto from = theirs(own);
    const Value value = Value::of(2);
    SingleStepped::begin();
    (void)from.publisher().publish(value);
    SingleStepped::end();
  }
  void survive(const Death& death) {
    const Version newest = pull_whole();
    EXPECT_TRUE(newest == 1 || newest == 2) << newest;
    EXPECT_TRUE(death.allows(newest == 2));
    find_dead();
    // Whether it was registered when it died is only known before and after.
    const Status told = slot.wait_newer(newest, Deadline::after(2ms), WaitStrategy::sleep);
    EXPECT_TRUE(told == Status::timeout || told == Status::peer_died) << to_string(told);
    if (death.never_began() || death.ended) {
      EXPECT_EQ(told, Status::timeout);
    }
    auto successor = slot.publisher();
    publish_again_and_again(successor);
    if (told == Status::peer_died) {
      EXPECT_EQ(slot.wait_newer(slot.version(), Deadline::after(2ms)), Status::timeout);
    }
    nobody_else_is_left();
  }
};

TEST_P(EveryInstruction, of_register_publish_and_unregister) {
  kill_everywhere([] { return PublisherComesAndGoes(GetParam()); });
}

struct View : SlotScene {
  explicit View(Finder who) : SlotScene(who, {.views = 1, .publishers = 1, .buffers = 2}) {
    EXPECT_EQ(publisher.publish(Value::of(1)), Status::ready);
  }
  void child() {
    Segment own = join();
    auto from = theirs(own);
    SingleStepped::begin();
    {
      auto reader = from.reader();
      const auto view = reader.pull();
      if (!view || !view->whole()) _exit(9);
    }
    SingleStepped::end();
  }
  void survive(const Death& /*death*/) {
    find_dead();
    EXPECT_EQ(pull_whole(), 1U);
    publish_again_and_again(publisher);
    auto reader = slot.reader();
    const auto view = reader.pull();
    EXPECT_TRUE(view && view->whole());
    EXPECT_EQ(view.reading().version, slot.version());
    nobody_else_is_left();
  }
  Slot<Value>::Publisher publisher = slot.publisher();
};

TEST_P(EveryInstruction, of_a_view_from_pin_to_unpin) {  // SLOT-3
  kill_everywhere([] { return View(GetParam()); });
}

// ---- task queue ---------------------------------------------------------------------------------

// How the survivors go on: all slots are used again, or the queue is closed and drained.
enum class Then { refill, drain };

struct QueueScene : Scene {
  using Queue = TaskQueue<Value>;
  static constexpr std::uint32_t capacity = 64;

  // The child's slot is the last one of its lap.
  QueueScene(Finder who, Then next) : Scene(who), then(next) {
    for (std::uint64_t i = 0; i + 1 < capacity; ++i) {
      EXPECT_EQ(queue.push(Value::of(i)), Status::ready);
      EXPECT_EQ(queue.pop().complete(), Status::ready);
    }
  }
  Queue theirs(Segment& own) const { return own.find<Queue>("queue"); }

  void fill_queue(std::uint64_t first, std::uint64_t count) {
    for (std::uint64_t i = first; i < first + count; ++i) {
      EXPECT_EQ(queue.push(Value::of(i)), Status::ready);
    }
  }
  void leave_a_consumer_asleep() {
    queue.wait_strategy(WaitStrategy::sleep);
    EXPECT_EQ(queue.pop(a_nap()).status(), Status::timeout);
    queue.wait_strategy(WaitStrategy::adaptive);
  }
  void leave_a_producer_asleep() {
    queue.wait_strategy(WaitStrategy::sleep);
    EXPECT_EQ(queue.push(Value::of(0), a_nap()), Status::timeout);
    queue.wait_strategy(WaitStrategy::adaptive);
  }

  // Gets the next task and ends it; returns its number and notes how often it was leased.
  std::uint64_t work() {
    Task<Value> task = queue.pop(long_enough());
    EXPECT_TRUE(task) << to_string(task.status());
    return task ? done(task) : UINT64_MAX;
  }
  std::uint64_t done(Task<Value>& task) {
    const std::uint64_t number = task.payload().number;
    EXPECT_TRUE(task.payload().whole());
    EXPECT_EQ(tries.count(number), 0U) << "task " << number << " was given out again";
    tries[number] = task.tries();
    EXPECT_EQ(task.complete(), Status::ready);
    return number;
  }
  // Works on what is left, the tasks of the dead too. (A look, and the look for the dead after it.)
  std::vector<std::uint64_t> work_on_the_rest() {
    std::vector<std::uint64_t> numbers;
    while (Task<Value> task = queue.pop(Deadline::after(1ms))) numbers.push_back(done(task));
    return numbers;
  }
  std::vector<std::uint64_t> drain() {
    EXPECT_EQ(queue.close(), Status::ready);
    std::vector<std::uint64_t> numbers;
    Task<Value> task;
    while ((task = queue.pop(long_enough()))) numbers.push_back(done(task));
    EXPECT_EQ(task.status(), Status::closed);
    const LeaseCounts left = queue.count();
    EXPECT_EQ(left.filling + left.waiting + left.leased, 0U);
    return numbers;
  }
  // The queue is empty, and so are all its slots.
  void all_slots_are_there() {
    tries.clear();
    EXPECT_EQ(queue.try_pop().status(), Status::empty);
    for (std::uint64_t i = 0; i < capacity; ++i) {
      EXPECT_EQ(queue.try_push(Value::of(i)), Status::ready) << "slot " << i << " is lost";
    }
    EXPECT_EQ(queue.try_push(Value::of(capacity)), Status::full);
    for (std::uint64_t i = 0; i < capacity; ++i) EXPECT_EQ(work(), i);
    EXPECT_TRUE(drain().empty());
  }

  Then then;
  Queue queue = segment.open<Queue>("queue", {capacity});
  std::map<std::uint64_t, std::uint64_t> tries;
};

struct Push : QueueScene {
  static constexpr std::uint64_t theirs_is = 1000;
  Push(Finder who, Then next) : QueueScene(who, next) { leave_a_consumer_asleep(); }
  void child() {
    Segment own = join();
    Queue from = theirs(own);
    const Value value = Value::of(theirs_is);
    SingleStepped::begin();
    (void)from.push(value);
    SingleStepped::end();
  }
  void survive(const Death& death) {
    find_dead();
    // What the dead one claimed and did not finish takes no room: it is found when it is needed.
    std::uint64_t pushed = 0;
    if (then == Then::refill) {
      while (queue.try_push(Value::of(pushed)) == Status::ready) ++pushed;
    } else {
      fill_queue(0, pushed = 3);
    }
    std::vector<std::uint64_t> numbers = then == Then::refill ? work_on_the_rest() : drain();
    const bool is_there = !numbers.empty() && numbers.front() == theirs_is;
    if (is_there) numbers.erase(numbers.begin());
    std::vector<std::uint64_t> ours(pushed);
    std::iota(ours.begin(), ours.end(), 0U);
    EXPECT_EQ(numbers, ours);
    EXPECT_TRUE(death.allows(is_there));
    if (then == Then::refill) {
      EXPECT_EQ(pushed + is_there, capacity);
      all_slots_are_there();
    }
    nobody_else_is_left();
  }
};

TEST_P(EveryInstruction, of_push_then_refilled) {  // QUEUE-1 QUEUE-2 QUEUE-6
  kill_everywhere([] { return Push(GetParam(), Then::refill); });
}
TEST_P(EveryInstruction, of_push_then_drained) {  // QUEUE-5
  kill_everywhere([] { return Push(GetParam(), Then::drain); });
}

struct Pop : QueueScene {
  Pop(Finder who, Then next) : QueueScene(who, next) {
    fill_queue(0, capacity);
    leave_a_producer_asleep();
    if (then == Then::drain) {
      EXPECT_EQ(queue.close(), Status::ready);
    }
  }
  void child() {
    Segment own = join();
    Queue from = theirs(own);
    SingleStepped::begin();
    const Task<Value> task = from.pop();
    SingleStepped::end();
  }
  void survive(const Death& death) {
    find_dead();
    if (then == Then::refill) {
      for (std::uint64_t i = 0; i < capacity; ++i) work();
      EXPECT_TRUE(work_on_the_rest().empty());
    } else {
      EXPECT_EQ(drain().size(), capacity);
    }
    for (std::uint64_t i = 0; i < capacity; ++i) {
      ASSERT_EQ(tries.count(i), 1U) << "task " << i << " is lost";
      EXPECT_TRUE(i == 0 || tries[i] == 1) << "task " << i << " was taken " << tries[i] << " times";
    }
    EXPECT_TRUE(tries[0] == 1 || tries[0] == 2) << tries[0];
    EXPECT_TRUE(death.allows(tries[0] == 2));
    if (then == Then::refill) all_slots_are_there();
    nobody_else_is_left();
  }
};

TEST_P(EveryInstruction, of_pop_then_refilled) {  // QUEUE-1 QUEUE-4
  kill_everywhere([] { return Pop(GetParam(), Then::refill); });
}
TEST_P(EveryInstruction, of_pop_then_drained) {  // QUEUE-4 QUEUE-5
  kill_everywhere([] { return Pop(GetParam(), Then::drain); });
}

// The child has task 0, and the others are there. A producer and a consumer are left asleep.
struct EndOfTask : QueueScene {
  EndOfTask(Finder who, Then next, std::uint64_t tasks) : QueueScene(who, next) {
    fill_queue(0, tasks);
  }
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
};

struct Complete : EndOfTask {
  Complete(Finder who, Then next) : EndOfTask(who, next, capacity) {}
  void child() {
    child_ends([](Task<Value>& task) { (void)task.complete(); });
  }
  void meet() {
    leave_a_producer_asleep();
    if (then == Then::refill) return;
    EXPECT_EQ(queue.close(), Status::ready);
  }
  void survive(const Death& death) {
    find_dead();
    then == Then::refill ? work_on_the_rest() : drain();
    for (std::uint64_t i = 1; i < capacity; ++i) EXPECT_EQ(tries[i], 1U) << "task " << i;
    const bool came_back = tries.count(0) == 1;
    EXPECT_TRUE(!came_back || tries[0] == 2) << tries[0];
    EXPECT_TRUE(death.allows(!came_back));
    if (then == Then::refill) all_slots_are_there();
    nobody_else_is_left();
  }
};

TEST_P(EveryInstruction, of_complete_then_refilled) {  // QUEUE-1 QUEUE-3
  kill_everywhere([] { return Complete(GetParam(), Then::refill); });
}
TEST_P(EveryInstruction, of_complete_then_drained) {  // QUEUE-5
  kill_everywhere([] { return Complete(GetParam(), Then::drain); });
}

struct Fail : EndOfTask {
  Fail(Finder who, Then next) : EndOfTask(who, next, 1) {}
  void child() {
    child_ends([](Task<Value>& task) { (void)task.fail(); });
  }
  void meet() {
    leave_a_consumer_asleep();
    if (then == Then::drain) {
      EXPECT_EQ(queue.close(), Status::ready);
    }
  }
  void survive(const Death& /*death*/) {
    find_dead();
    if (then == Then::refill) {
      EXPECT_EQ(work(), 0U);
    } else {
      EXPECT_THAT(drain(), testing::ElementsAre(0));
    }
    EXPECT_EQ(tries[0], 2U);
    if (then == Then::refill) all_slots_are_there();
    nobody_else_is_left();
  }
};

TEST_P(EveryInstruction, of_fail_then_refilled) {  // QUEUE-4
  kill_everywhere([] { return Fail(GetParam(), Then::refill); });
}
TEST_P(EveryInstruction, of_fail_then_drained) {  // QUEUE-4 QUEUE-5
  kill_everywhere([] { return Fail(GetParam(), Then::drain); });
}

// The child has reserved the slot of ticket 0 and filled half of it. Consumers may have gone past it.
struct HalfFilled : QueueScene {
  static constexpr std::uint64_t theirs_is = 1000;
  HalfFilled(Finder who, Then next, bool gone_past) : QueueScene(who, next), passed(gone_past) {}
  template <class End>
  void child_ends(End&& end) {
    Segment own = join();
    LeaseRing ring = ring_of<Value>(own, "queue");
    LeaseRing::Reservation slot;
    if (ring.try_reserve(slot) != Status::ready) _exit(9);
    test::fill(slot, Value::of(theirs_is));
    SingleStepped::begin();
    end(slot);
    SingleStepped::end();
  }
  void meet() {
    if (passed) {
      fill_queue(0, 1);
      EXPECT_EQ(work(), 0U);
    }
    leave_a_consumer_asleep();
  }
  // Whether its task was there.
  bool is_there_and_all_else_too() {
    find_dead();
    fill_queue(1, 3);
    std::vector<std::uint64_t> numbers = then == Then::refill ? work_on_the_rest() : drain();
    nobody_else_is_left();
    for (const std::uint64_t number : work_on_the_rest()) numbers.push_back(number);
    const auto found = std::find(numbers.begin(), numbers.end(), theirs_is);
    const bool is_there = found != numbers.end();
    if (is_there) numbers.erase(found);
    EXPECT_THAT(numbers, testing::ElementsAre(1, 2, 3));
    if (then == Then::refill) all_slots_are_there();
    return is_there;
  }
  bool passed;
};

struct LateCommit : HalfFilled {
  LateCommit(Finder who, Then next) : HalfFilled(who, next, true) {}
  void child() {
    child_ends([](const LeaseRing::Reservation& slot) { (void)slot.commit(); });
  }
  void survive(const Death& death) { EXPECT_TRUE(death.allows(is_there_and_all_else_too())); }
};

TEST_P(EveryInstruction, of_a_late_commit_then_refilled) {  // QUEUE-4
  kill_everywhere([] { return LateCommit(GetParam(), Then::refill); });
}
TEST_P(EveryInstruction, of_a_late_commit_then_drained) {  // QUEUE-4 QUEUE-5
  kill_everywhere([] { return LateCommit(GetParam(), Then::drain); });
}

struct Cancel : HalfFilled {
  using HalfFilled::HalfFilled;
  void child() {
    child_ends([](const LeaseRing::Reservation& slot) { (void)slot.cancel(); });
  }
  void survive(const Death& /*death*/) { EXPECT_FALSE(is_there_and_all_else_too()); }
};

TEST_P(EveryInstruction, of_a_cancel_then_refilled) {  // QUEUE-1
  kill_everywhere([] { return Cancel(GetParam(), Then::refill, false); });
}
TEST_P(EveryInstruction, of_a_cancel_that_comes_late_then_drained) {  // QUEUE-5
  kill_everywhere([] { return Cancel(GetParam(), Then::drain, true); });
}

// This process is in the middle of a push, and the child goes past that.
struct GoPast : QueueScene {
  explicit GoPast(Finder who) : QueueScene(who, Then::refill) {
    EXPECT_EQ(ring.try_reserve(slot), Status::ready);
    test::fill(slot, Value::of(0), sizeof(Value) / 2);
    fill_queue(1, 3);
  }
  void child() {
    Segment own = join();
    Queue from = theirs(own);
    SingleStepped::begin();
    const Task<Value> task = from.pop();
    SingleStepped::end();
  }
  void survive(const Death& death) {
    find_dead();
    test::fill(slot, Value::of(0));
    EXPECT_EQ(slot.commit(), Status::ready);
    work_on_the_rest();
    nobody_else_is_left();
    work_on_the_rest();
    EXPECT_EQ(tries.size(), 4U);
    EXPECT_TRUE(death.allows(tries[1] == 2));
    all_slots_are_there();
  }
  LeaseRing ring = ring_of<Value>(segment, "queue");
  LeaseRing::Reservation slot;
};

TEST_P(EveryInstruction, of_going_past_a_half_filled_slot) {  // QUEUE-2
  kill_everywhere([] { return GoPast(GetParam()); });
}

struct Close : QueueScene {
  explicit Close(Finder who) : QueueScene(who, Then::drain) { fill_queue(0, 3); }
  void child() {
    Segment own = join();
    Queue from = theirs(own);
    SingleStepped::begin();
    (void)from.close();
    SingleStepped::end();
  }
  void survive(const Death& death) {
    find_dead();
    EXPECT_TRUE(death.allows(queue.is_closed()));
    const bool closed = queue.is_closed();
    EXPECT_EQ(queue.push(Value::of(3)), closed ? Status::closed : Status::ready);
    EXPECT_EQ(drain().size(), closed ? 3U : 4U);
    nobody_else_is_left();
  }
};

TEST_P(EveryInstruction, of_close) {  // QUEUE-5
  kill_everywhere([] { return Close(GetParam()); });
}

// ---- barrier ------------------------------------------------------------------------------------

struct BarrierScene : Scene {
  BarrierScene(Finder who, const Barrier::Options& options)
      : Scene(who), barrier(segment.open<Barrier>("barrier", options)) {}

  Barrier theirs(Segment& own) const { return own.find<Barrier>("barrier"); }
  void leave_me_asleep() {
    EXPECT_EQ(mine.wait(a_nap(), WaitStrategy::sleep).status, Status::timeout);
  }

  // Whether the outcome of `epoch` says that the child has died.
  bool told(const Barrier::Outcome& outcome, std::uint64_t epoch) {
    EXPECT_EQ(outcome.epoch, epoch);
    if (outcome.status == Status::peer_died) {
      EXPECT_EQ(outcome.died, the_child);
      return true;
    }
    EXPECT_EQ(outcome.status, Status::ready) << to_string(outcome.status);
    EXPECT_FALSE(outcome.died);
    return false;
  }
  // Passes the next epoch alone.
  bool told_in(std::uint64_t epoch) { return told(mine.arrive_and_wait(long_enough()), epoch); }

  void another_takes_part_in(std::uint64_t epoch) {
    EXPECT_EQ(barrier.members(), 1U);
    Barrier::Party other = barrier.join(long_enough());
    EXPECT_EQ(barrier.members(), 2U);
    EXPECT_FALSE(told_in(epoch));  // in which it came
    EXPECT_FALSE(told(other.wait(long_enough()), epoch));
    EXPECT_EQ(mine.arrive(), Status::ready);
    EXPECT_EQ(barrier.epoch(), epoch) << "it has ended without the other";
    EXPECT_FALSE(told(other.arrive_and_wait(long_enough()), epoch + 1));
    EXPECT_FALSE(told(mine.wait(long_enough()), epoch + 1));
  }

  Barrier barrier;
  Barrier::Party mine = barrier.join();
};

// As the first or as the last of two.
struct Arrive : BarrierScene {
  Arrive(Finder who, bool as_last,
         const Barrier::Options& options = {.parties = 2, .max_parties = 2})
      : BarrierScene(who, options), last(as_last) {}
  void child() {
    Segment own = join();
    Barrier::Party party = theirs(own).join();
    SingleStepped::begin();
    (void)party.arrive();
    SingleStepped::end();
  }
  void meet() {
    if (!last) return;
    EXPECT_EQ(mine.arrive(), Status::ready);
    leave_me_asleep();
  }
  void survive(const Death& death) {
    find_dead();
    const bool in_1 = told_in(1);
    const bool in_2 = told_in(2);
    EXPECT_NE(in_1, in_2) << "a death is told once";
    EXPECT_TRUE(death.allows(in_2)) << "it had arrived at epoch 1, or not";
    another_takes_part_in(3);
    nobody_else_is_left();
  }
  bool last;
};

TEST_P(EveryInstruction, of_arrive_as_the_first) {  // BARRIER-2
  kill_everywhere([] { return Arrive(GetParam(), false); });
}
TEST_P(EveryInstruction, of_arrive_as_the_last) {  // BARRIER-1 BARRIER-2
  kill_everywhere([] { return Arrive(GetParam(), true); });
}

// The same in another branch than mine. The other places of mine are free again by then.
struct ArriveInItsBranch : Arrive {
  ArriveInItsBranch(Finder who, bool as_last)
      : Arrive(who, as_last, {.parties = 17, .max_parties = 40}) {
    for (int i = 0; i < 15; ++i) others.push_back(barrier.join());
  }
  void child() {
    for (auto& other : others) EXPECT_FALSE(other.is_member()) << "of a forked child's parent";
    Segment own = join();
    Barrier::Party party = theirs(own).join();
    EXPECT_EQ(party.place(), 16U);
    SingleStepped::begin();
    (void)party.arrive();
    SingleStepped::end();
  }
  void meet() {
    others.clear();
    Arrive::meet();
  }
  std::vector<Barrier::Party> others;
};

TEST_P(EveryInstruction, of_arrive_as_the_first_branch) {  // BARRIER-6
  kill_everywhere([] { return ArriveInItsBranch(GetParam(), false); });
}
TEST_P(EveryInstruction, of_arrive_as_the_last_branch) {  // BARRIER-1 BARRIER-6
  kill_everywhere([] { return ArriveInItsBranch(GetParam(), true); });
}

struct Leave : BarrierScene {
  Leave(Finder who, bool as_last)
      : BarrierScene(who, {.parties = 2, .max_parties = 2}), last(as_last) {}
  void child() {
    Segment own = join();
    Barrier::Party party = theirs(own).join();
    SingleStepped::begin();
    party.leave();
    SingleStepped::end();
  }
  void meet() {
    if (!last) return;
    EXPECT_EQ(mine.arrive(), Status::ready);
    leave_me_asleep();
  }
  void survive(const Death& death) {
    find_dead();
    const bool in_1 = told_in(1);
    EXPECT_FALSE(told_in(2));
    EXPECT_TRUE(death.allows(!in_1));
    another_takes_part_in(3);
    nobody_else_is_left();
  }
  bool last;
};

TEST_P(EveryInstruction, of_leave_as_the_first) {
  kill_everywhere([] { return Leave(GetParam(), false); });
}
TEST_P(EveryInstruction, of_leave_as_the_last) {
  kill_everywhere([] { return Leave(GetParam(), true); });
}

struct Join : BarrierScene {
  explicit Join(Finder who) : BarrierScene(who, {.parties = 1, .max_parties = 2}) {}
  void child() {
    Segment own = join();
    Barrier from = theirs(own);
    SingleStepped::begin();
    const Barrier::Party party = from.join();
    SingleStepped::end();
  }
  void survive(const Death& death) {
    find_dead();
    const bool in_1 = told_in(1);
    const bool in_2 = told_in(2);
    EXPECT_FALSE(in_1 && in_2);
    EXPECT_TRUE(death.allows(in_1 || in_2));
    EXPECT_TRUE(!death.ended || in_2) << "the epoch in which it came does not wait for it";
    another_takes_part_in(3);
    nobody_else_is_left();
  }
};

TEST_P(EveryInstruction, of_join_while_an_epoch_is_open) {  // BARRIER-4
  kill_everywhere([] { return Join(GetParam()); });
}

// The child is the last one that the first epoch waits for.
struct JoinAsLast : BarrierScene {
  explicit JoinAsLast(Finder who) : BarrierScene(who, {.parties = 2, .max_parties = 3}) {
    leave_me_asleep();
  }
  void child() {
    Segment own = join();
    Barrier from = theirs(own);
    SingleStepped::begin();
    const Barrier::Party party = from.join();
    SingleStepped::end();
  }
  void survive(const Death& death) {
    find_dead();
    Barrier::Party other = barrier.join(long_enough());
    EXPECT_FALSE(told(mine.wait(long_enough()), 0));
    EXPECT_EQ(mine.arrive(), Status::ready);
    // Either the child had opened the first epoch, and the other came into that, or the other did.
    Barrier::Outcome first = other.wait(long_enough());
    if (first.epoch == 0) {
      EXPECT_FALSE(told(first, 0));
      first = other.arrive_and_wait(long_enough());
    }
    const bool in_1 = told(first, 1);
    EXPECT_EQ(told(mine.wait(long_enough()), 1), in_1);
    EXPECT_TRUE(death.allows(in_1));
    for (std::uint64_t epoch = 2; epoch <= 3; ++epoch) {
      EXPECT_EQ(other.arrive(), Status::ready);
      EXPECT_FALSE(told_in(epoch));
      EXPECT_FALSE(told(other.wait(long_enough()), epoch));
    }
    other.leave();
    another_takes_part_in(4);
    nobody_else_is_left();
  }
};

TEST_P(EveryInstruction, of_join_as_the_last_to_come) {  // BARRIER-4
  kill_everywhere([] { return JoinAsLast(GetParam()); });
}

// ---- group --------------------------------------------------------------------------------------

struct GroupScene : Scene {
  explicit GroupScene(Finder who)
      : Scene(who, {.bytes = 32 << 10, .participants = 3, .objects = 8}) {
    while (!is_waiting) sched_yield();
  }

  Group theirs(Segment& own) const {
    ++std::atomic_ref(own.find<SharedBuffer<std::uint64_t>>("forked")[0]);
    return own.find<Group>("group");
  }
  static Status of(const GroupOutcome& outcome) { return outcome.status; }
  // Whoever was a member with the dead is one without it, and goes on.
  void rebuild_alone() {
    EXPECT_EQ(of(mine.rebuild(long_enough())), Status::ready);
    EXPECT_EQ(mine.size(), 1U);
    EXPECT_EQ(of(mine.barrier(long_enough())), Status::ready);
    nobody_else_is_left();
  }

  Group group =
      segment.open<Group>("group", {.size = 2, .places = 3, .exchange_bytes = page_bytes});
  Group::Member mine;
  SharedBuffer<std::uint64_t> forked = segment.open<SharedBuffer<std::uint64_t>>("forked", {1});
  std::atomic<bool> is_waiting = false;
  // When the child has come, too. Until it is forked this thread does nothing that takes a lock: the child
  // would have it for ever. (malloc's are taken care of, and a sanitizer's are not.)
  std::thread joins{[this] {
    is_waiting = true;
    while (std::atomic_ref(forked[0]) == 0) sched_yield();
    mine = group.join(long_enough());
  }};
};

// The child is the last one that the first epoch waits for.
struct JoinGroup : GroupScene {
  using GroupScene::GroupScene;
  void child() {
    Segment own = join();
    Group from = theirs(own);
    SingleStepped::begin();
    const Group::Member member = from.join();
    SingleStepped::end();
  }
  void survive(const Death& death) {
    if (finder == Finder::recover_dead) {
      EXPECT_LE(segment.recover_dead(), 1U) << "who joins looks, too";
    }
    std::thread other([this] {
      auto member = group.join(long_enough());
      pass(member, false);
    });
    joins.join();
    pass(mine, true);
    other.join();
    EXPECT_TRUE(death.allows(began_with_the_child));
    EXPECT_EQ(of(mine.barrier(long_enough())), Status::peer_died) << "the other has left";
    rebuild_alone();
  }
  // Until both of us have passed a step.
  void pass(Group::Member& member, bool is_mine) {
    for (;;) {
      const GroupOutcome outcome = member.barrier(long_enough());
      if (outcome && member.size() == 2) return;
      EXPECT_TRUE(outcome || outcome.status == Status::peer_died) << to_string(outcome.status);
      if (is_mine && outcome.status == Status::peer_died) began_with_the_child = true;
      if (outcome.status == Status::timeout) return;
      EXPECT_EQ(of(member.rebuild(long_enough())), Status::ready);
    }
  }
  bool began_with_the_child = false;
};

TEST_P(EveryInstruction, of_join_of_a_group) {  // GROUP-1
  kill_everywhere([] { return std::make_unique<JoinGroup>(GetParam()); });
}

// The child is the last one to come to a step.
struct GroupBarrier : GroupScene {
  using GroupScene::GroupScene;
  void child() {
    Segment own = join();
    auto member = theirs(own).join();
    SingleStepped::begin();
    (void)member.barrier();
    SingleStepped::end();
  }
  void meet() {
    joins.join();
    EXPECT_EQ(of(mine.begin({})), Status::ready);
    mine.wait_strategy(WaitStrategy::sleep);
    EXPECT_EQ(of(mine.wait(a_nap())), Status::timeout);
  }
  void survive(const Death& death) {
    find_dead();
    const Status told = of(mine.wait(long_enough()));
    EXPECT_TRUE(told == Status::ready || told == Status::peer_died) << to_string(told);
    EXPECT_TRUE(death.allows(told == Status::ready));
    EXPECT_EQ(of(mine.barrier(long_enough())), Status::peer_died);
    rebuild_alone();
  }
};

TEST_P(EveryInstruction, of_a_step_of_a_group) {  // GROUP-3
  kill_everywhere([] { return std::make_unique<GroupBarrier>(GetParam()); });
}

struct Allreduce : GroupScene {
  using GroupScene::GroupScene;
  static CollectiveCall allreduce_of(std::span<float> of_mine) {
    return {.what = Collective::allreduce,
            .type = NumberType::float32,
            .count = of_mine.size(),
            .in = of_mine.data(),
            .out = of_mine.data()};
  }
  void child() {
    Segment own = join();
    auto member = theirs(own).join();
    SingleStepped::begin();
    (void)member.allreduce(std::span<float>(data));
    SingleStepped::end();
  }
  void meet() {
    joins.join();
    EXPECT_EQ(of(mine.begin(allreduce_of(data))), Status::ready);
  }
  void survive(const Death& death) {
    find_dead();
    const Status told = of(mine.wait(long_enough()));
    EXPECT_TRUE(told == Status::ready || told == Status::peer_died) << to_string(told);
    EXPECT_TRUE(death.allows(told == Status::ready));
    if (told == Status::ready) {
      EXPECT_EQ(data, (std::array<float, 5>{2, 4, 6, 8, 10}));
    }
    EXPECT_EQ(of(mine.barrier(long_enough())), Status::peer_died);
    rebuild_alone();
  }
  std::array<float, 5> data{1, 2, 3, 4, 5};
};

TEST_P(EveryInstruction, of_a_small_allreduce) {  // GROUP-3
  kill_everywhere([] { return std::make_unique<Allreduce>(GetParam()); });
}

// The child is the last one to ask for the next epoch.
struct Rebuild : GroupScene {
  using GroupScene::GroupScene;
  void child() {
    Segment own = join();
    auto member = theirs(own).join();
    SingleStepped::begin();
    (void)member.rebuild();
    SingleStepped::end();
  }
  void meet() {
    joins.join();
    EXPECT_EQ(of(mine.rebuild(a_nap())), Status::timeout);
  }
  void survive(const Death& death) {
    find_dead();
    EXPECT_EQ(of(mine.rebuild(long_enough())), Status::ready);
    EXPECT_TRUE(death.allows(mine.size() == 2)) << mine.size();
    if (mine.size() == 2) {
      EXPECT_EQ(of(mine.barrier(long_enough())), Status::peer_died);
    }
    rebuild_alone();
  }
};

TEST_P(EveryInstruction, of_rebuilding_a_group) {  // GROUP-1 GROUP-2
  kill_everywhere([] { return std::make_unique<Rebuild>(GetParam()); });
}

// ---- board --------------------------------------------------------------------------------------

struct BoardScene : Scene {
  static constexpr std::uint32_t items = 2;
  using Scene::Scene;

  Board theirs(Segment& own) const { return own.find<Board>("board"); }
  // Does what is left of the round and says how much that was.
  std::uint32_t finish_round(Round round) {
    std::uint32_t item = 0;
    std::uint32_t count = 0;
    Status got = Status::empty;
    while ((got = board.take(round, item, long_enough())) == Status::ready) {
      board.finish(item);
      ++count;
    }
    EXPECT_EQ(got, Status::empty);
    EXPECT_EQ(board.rounds_done(), round);
    return count;
  }
  void leave_me_asleep() {
    std::uint32_t item = 0;
    EXPECT_EQ(board.take(1, item, a_nap(), WaitStrategy::sleep), Status::timeout);
  }

  Board board = segment.open<Board>("board", {.items = items});
};

struct Claim : BoardScene {
  using BoardScene::BoardScene;
  void child() {
    Segment own = join();
    Board from = theirs(own);
    std::uint32_t item = 0;
    SingleStepped::begin();
    (void)from.take(1, item, Deadline::now());
    SingleStepped::end();
  }
  void survive(const Death& /*death*/) {
    find_dead();
    EXPECT_EQ(finish_round(1), items);
    EXPECT_EQ(finish_round(2), items);
    nobody_else_is_left();
  }
};

TEST_P(EveryInstruction, of_a_claim_on_a_board) {  // BOARD-1
  kill_everywhere([] { return Claim(GetParam()); });
}

struct Finish : BoardScene {
  using BoardScene::BoardScene;
  void child() {
    Segment own = join();
    Board from = theirs(own);
    std::uint32_t item = 0;
    if (from.take(1, item, Deadline::now()) != Status::ready) _exit(9);
    SingleStepped::begin();
    from.finish(item);
    SingleStepped::end();
  }
  void meet() {
    std::uint32_t item = 0;
    EXPECT_EQ(board.take(1, item, Deadline::now()), Status::ready);
    board.finish(item);
    leave_me_asleep();
  }
  void survive(const Death& death) {
    find_dead();
    const std::uint32_t again = finish_round(1);
    EXPECT_LE(again, 1U);
    EXPECT_TRUE(death.allows(again == 0));
    EXPECT_EQ(finish_round(2), items);
    nobody_else_is_left();
  }
};

TEST_P(EveryInstruction, of_the_last_finish_of_a_round) {  // BOARD-1 BOARD-2
  kill_everywhere([] { return Finish(GetParam()); });
}

// ---- segment ------------------------------------------------------------------------------------

struct Create : Scene {
  using Values = Slot<Value>;
  static constexpr Values::Options options{.views = 1, .publishers = 1, .buffers = 2};
  explicit Create(Finder who) : Scene(who, {.bytes = 8 << 10, .participants = 3, .objects = 2}) {}

  void child() {
    Segment own = join();
    SingleStepped::begin();
    (void)own.open<Values>("new", options);
    SingleStepped::end();
  }
  void survive(const Death& death) {
    find_dead();
    if (death.ended) {
      EXPECT_NO_THROW(segment.find<Values>("new"));
    }
    for (const char* name : {"new", "other"}) {  // which are all that the directory has room for
      auto slot = segment.open<Values>(name, options);
      EXPECT_EQ(slot.version(), 0U);
      auto publisher = slot.publisher();
      auto reader = slot.reader();
      EXPECT_EQ(publisher.publish(Value::of(1)), Status::ready);
      const auto view = reader.pull();
      EXPECT_TRUE(view && view->whole());
    }
    EXPECT_NO_THROW(segment.find<Values>("new"));
    nobody_else_is_left();
  }
};

TEST_P(EveryInstruction, of_creating_an_object) {  // DIR-1 DIR-2
  kill_everywhere([] { return Create(GetParam()); });
}

// Two places: who comes next needs that of the dead.
constexpr Segment::Options for_two{.bytes = 4096, .participants = 2, .objects = 1};

struct Adopt : Scene {
  explicit Adopt(Finder who) : Scene(who, for_two) {}
  void child() {
    SingleStepped::begin();
    const Segment own = Segment::adopt(segment.fd());
    SingleStepped::end();
  }
  void survive(const Death& death) {
    if (finder == Finder::recover_dead) {
      const std::size_t found = segment.recover_dead();
      EXPECT_LE(found, 1U);
      if (death.ended) {
        EXPECT_EQ(found, 1U);
      }
    }
    {
      Segment newcomer = join();
      EXPECT_EQ(newcomer.peers().self(), the_child);
      EXPECT_EQ(segment.participants().size(), 2U);
    }
    nobody_else_is_left();
  }
};

TEST_P(EveryInstruction, of_joining_a_segment_by_descriptor) {  // PART-1 PART-3
  kill_everywhere([] { return Adopt(GetParam()); });
}

struct Named {
  explicit Named(Finder who) : finder(who), segment(Segment::create(name, for_two)) {}
  void meet() {}
  int watched() const { return segment->fd(); }
  bool is_named() const { return access(path.c_str(), F_OK) == 0; }

  void newcomer_gets_in_and_nothing_stays() {
    if (finder == Finder::recover_dead) {
      EXPECT_LE(segment->recover_dead(), 1U);
    }
    {
      const Segment newcomer = Segment::open(name);
      EXPECT_EQ(segment->participants().size(), 2U);
    }
    EXPECT_TRUE(is_named());
    EXPECT_EQ(segment->recover_dead(), 0U);
    EXPECT_EQ(segment->participants().size(), 1U);
    segment.reset();
    EXPECT_FALSE(is_named()) << path << " has stayed";
  }

  Finder finder;
  std::string name = "every-instruction-" + std::to_string(getpid());
  std::string path = segment_path(name);
  std::optional<Segment> segment;
};

struct Open : Named {
  using Named::Named;
  void child() {
    SingleStepped::begin();
    const Segment own = Segment::open(name);
    SingleStepped::end();
  }
  void survive(const Death& death) {
    if (death.ended) {
      EXPECT_EQ(segment->recover_dead(), 1U);
    }
    newcomer_gets_in_and_nothing_stays();
  }
};

TEST_P(EveryInstruction, of_joining_a_segment_by_name) {  // PART-1 PART-3
  kill_everywhere([] { return Open(GetParam()); });
}

struct LeaveSegment : Named {
  using Named::Named;
  void child() {
    std::optional<Segment> own(Segment::open(name));
    SingleStepped::begin();
    own.reset();
    SingleStepped::end();
  }
  void survive(const Death& death) {
    if (death.never_began()) {
      EXPECT_EQ(segment->recover_dead(), 1U);
    }
    if (death.ended) {
      EXPECT_EQ(segment->recover_dead(), 0U);
    }
    newcomer_gets_in_and_nothing_stays();
  }
};

TEST_P(EveryInstruction, of_leaving_a_segment) {  // PART-2 PART-3
  kill_everywhere([] { return LeaveSegment(GetParam()); });
}

// ---- recovery -----------------------------------------------------------------------------------

// A third process died with one of everything in its hands, even half a publication, half a task
// and an object that it was making. The child recovers it, and dies of it.
struct Recover : OneOfEverything {
  explicit Recover(Finder who) : finder(who) {
    SingleStepped victim([this](Line&) {
      hold_all([](Values::Publisher& dying) {
        SingleStepped::begin();
        (void)dying.publish(Value::of(2));
        SingleStepped::end();
      });
    });
    test::Watch watch(segment.fd());
    for (int changes = 0; changes < 3 && victim.step();) {  // it has claimed the buffer, and writes
      if (watch.changed()) ++changes;
    }
    EXPECT_FALSE(victim.has_ended());
    victim.kill();
    EXPECT_EQ(queue.count().leased, 1U);
    EXPECT_EQ(queue.count().filling, 1U);
    EXPECT_EQ(barrier.members(), 2U);
  }
  void meet() {}
  int watched() const { return segment.fd(); }

  void child() {
    Segment own = join();
    SingleStepped::begin();
    (void)own.recover_dead();
    SingleStepped::end();
  }

  void survive(const Death& death) {
    if (finder == Finder::recover_dead) {
      const std::size_t found = segment.recover_dead();
      EXPECT_TRUE(found == 1 || found == 2) << found;
      if (death.never_began()) {
        EXPECT_EQ(found, 2U);
      }
      if (death.ended) {
        EXPECT_EQ(found, 1U);
      }
    }
    // Nobody has lost anything.
    for (Version version = 2; version < 6; ++version) {
      EXPECT_EQ(publisher.publish(Value::of(version)), Status::ready);
    }
    auto reader = slot.reader();
    EXPECT_EQ(reader.pull().reading().version, 5U);
    {
      Task<Value> task = queue.pop(long_enough());
      ASSERT_TRUE(task);
      EXPECT_EQ(task.payload().number, 0U);
      EXPECT_EQ(task.tries(), 2U);
      EXPECT_EQ(task.complete(), Status::ready);
    }
    for (std::uint64_t i = 0; i < capacity; ++i) {
      EXPECT_EQ(queue.try_push(Value::of(i)), Status::ready) << "slot " << i << " is lost";
    }
    EXPECT_EQ(queue.close(), Status::ready);
    for (std::uint64_t i = 0; i < capacity; ++i) {
      Task<Value> task = queue.pop(long_enough());
      ASSERT_TRUE(task);
      EXPECT_EQ(task.payload().number, i);
      EXPECT_EQ(task.complete(), Status::ready);
    }
    EXPECT_EQ(queue.pop(long_enough()).status(), Status::closed);
    EXPECT_EQ(mine.arrive_and_wait(long_enough()).status, Status::ready);  // in which it came
    EXPECT_EQ(mine.arrive_and_wait(long_enough()).status, Status::peer_died);
    EXPECT_EQ(mine.arrive_and_wait(long_enough()).status, Status::ready);
    std::uint32_t item = 0;
    EXPECT_EQ(board.take(1, item, long_enough()), Status::ready);
    board.finish(item);
    EXPECT_EQ(board.take(1, item, long_enough()), Status::empty);
    {
      Group::Member member = group.join(long_enough());
      EXPECT_EQ(member.barrier(long_enough()).status, Status::ready);
    }
    EXPECT_EQ(segment.open<Values>("new", options).version(), 0U);
    // And there is room for two.
    EXPECT_LE(segment.recover_dead(), finder == Finder::waiter ? 2U : 0U);
    EXPECT_EQ(segment.recover_dead(), 0U);
    const Segment first = join();
    const Segment second = join();
    EXPECT_EQ(segment.participants().size(), 3U);
  }

  Finder finder;
};

TEST_P(EveryInstruction, of_recovery) {  // PART-2 PART-3
  kill_everywhere([] { return Recover(GetParam()); });
}

}  // namespace
}  // namespace heddle

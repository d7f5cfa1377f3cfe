// A process that is stopped with SIGSTOP in the middle of an operation, wherever that is, lives: it
// keeps what it has, and the others go on without it. When it goes on, its operation ends as ever.
//
// The others are this process. Each of their calls has to end with success, or to say who it waits
// for. They look several times whether the stopped one lives: by themselves, and while they wait.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <set>
#include <string>

#include "heddle/shm/segment.hpp"
#include "heddle/shm/shared_buffer.hpp"
#include "heddle/sync/barrier.hpp"
#include "heddle/sync/board.hpp"
#include "heddle/sync/slot.hpp"
#include "heddle/sync/task_queue.hpp"
#include "support/one_of_everything.hpp"
#include "support/process.hpp"
#include "support/single_step.hpp"
#include "support/stop_everywhere.hpp"
#include "support/traced.hpp"
#include "support/value.hpp"

namespace heddle {
namespace {

using namespace std::chrono_literals;
using test::Line;
using test::OneOfEverything;
using test::Process;
using test::Step;
using test::stop_everywhere;
using test::Traced;
using test::Value;
using test::Watch;

Deadline long_enough() { return Deadline::after(test::patience / 2); }
/// A waiter looks at those whom it waits for after 1 ms, and again after 11.
Deadline after_two_looks() { return Deadline::after(12ms); }

class Stopped : public testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(Traced::is_allowed()) << Traced::refusal; }
};

// This process is at place 0, the child at place 1.
struct Scene {
  Segment join() const { return Segment::adopt(segment.fd()); }
  void meet() {}
  int watched() const { return segment.fd(); }
  void nobody_is_taken_for_dead() {
    for (int look = 0; look < 3; ++look) EXPECT_EQ(segment.recover_dead(), 0U);
  }

  static constexpr Owner the_child = Owner::at(1);
  Segment segment = Segment::anonymous({.bytes = 16 << 10, .participants = 4, .objects = 8});
};

// ---- slot ---------------------------------------------------------------------------------------

struct SlotScene : Scene {
  // Versions and numbers are the same as long as only this process publishes.
  void publish_and_pull() {
    const Version before = slot.version();
    for (std::uint64_t i = 1; i <= 50; ++i) {
      EXPECT_EQ(publisher.publish(Value::of(before + i)), Status::ready);
      Value value{};
      EXPECT_EQ(slot.pull(value).version, before + i);
      EXPECT_TRUE(value.whole());
      EXPECT_EQ(value.number, before + i);
    }
    nobody_is_taken_for_dead();
  }

  Slot<Value> slot = segment.open<Slot<Value>>("slot", {.views = 2, .publishers = 2});
  Slot<Value>::Publisher publisher = slot.publisher();
};

struct Publish : SlotScene {
  static constexpr std::uint64_t theirs = 1000;
  void child(Line& test) {
    Segment own = join();
    auto publishing = own.find<Slot<Value>>("slot").publisher();
    const Value value = Value::of(theirs);
    Traced::begin();
    const Status status = publishing.publish(value);
    Traced::end();
    test.say(to_string(status));
  }
  void others() {
    EXPECT_TRUE(slot.version() <= 1);
    publish_and_pull();
    auto reader = slot.reader();
    const auto view = reader.pull();
    EXPECT_TRUE(view && view->whole());
  }
  void after(const std::string& said) {
    EXPECT_EQ(said, "ready");
    EXPECT_EQ(slot.version(), 51U) << "each publication counts once";
    Value value{};
    EXPECT_TRUE(slot.pull(value) && value.whole());
    publish_and_pull();
  }
};

TEST_F(Stopped, in_publish_holds_up_nobody) {  // SLOT-1 SLOT-2
  stop_everywhere([] { return Publish(); });
}

struct Pull : SlotScene {
  explicit Pull(bool by_view) : view(by_view) { publish_and_pull(); }
  void child(Line& test) {
    Segment own = join();
    auto from = own.find<Slot<Value>>("slot");
    auto reader = from.reader();
    Value value{};
    Reading reading;
    Traced::begin();
    if (view) {
      const auto pinned = reader.pull();
      reading = pinned.reading();
      value = *pinned;
    } else {
      reading = from.pull(value);
    }
    Traced::end();
    const bool good = reading && value.whole() && value.number == reading.version;
    test.say(good ? "good" : "torn");
  }
  void others() { publish_and_pull(); }
  void after(const std::string& said) {
    EXPECT_EQ(said, "good");
    publish_and_pull();
  }
  bool view;
};

TEST_F(Stopped, in_a_copy_holds_up_no_publisher_and_gets_a_whole_value) {  // SLOT-2
  stop_everywhere([] { return Pull(false); });
}
TEST_F(Stopped, in_a_view_holds_up_no_publisher_and_sees_a_whole_value) {  // SLOT-3
  stop_everywhere([] { return Pull(true); });
}

// A place of the dead is found by the stopped one, and recovered by others meanwhile.
struct Register : Scene {
  explicit Register(bool as_reader) : reads(as_reader) {
    Process dead([this](Line& test) {
      Segment own = join();
      auto theirs = own.find<Slot<Value>>("slot");
      auto publisher = theirs.publisher();
      auto reader = theirs.reader();
      test.say("in");
      test.hear();
    });
    EXPECT_EQ(dead.hear(), "in");
  }
  void child(Line& test) {
    Segment own = join();
    auto theirs = own.find<Slot<Value>>("slot");
    std::optional<Slot<Value>::Publisher> publisher;
    std::optional<Slot<Value>::Reader> reader;
    std::string said = "registered";
    Traced::begin();
    try {
      reads ? void(reader.emplace(theirs.reader())) : void(publisher.emplace(theirs.publisher()));
    } catch (const Error& error) {
      said = error.what();
    }
    Traced::end();
    test.say(said);
  }
  void others() { EXPECT_LE(segment.recover_dead(), 1U); }
  void after(const std::string& said) { EXPECT_EQ(said, "registered"); }

  bool reads;
  Slot<Value> slot = segment.open<Slot<Value>>("slot", {.views = 1, .publishers = 1});
};

TEST_F(Stopped, before_it_looks_for_a_dead_publisher_gets_the_place_that_others_freed) {
  stop_everywhere([] { return Register(false); });
}
TEST_F(Stopped, before_it_looks_for_a_dead_reader_gets_the_view_that_others_freed) {
  stop_everywhere([] { return Register(true); });
}

// Of two buffers one is the latest, and a dead publisher was writing to the other.
struct PublishAfterDeath : Scene {
  PublishAfterDeath() {
    EXPECT_EQ(slot.publisher().publish(Value::of(1)), Status::ready);
    Traced dead([this](Line&) {
      Segment own = join();
      auto publisher = own.find<Slot<Value>>("slot").publisher();
      Traced::begin();
      (void)publisher.publish(Value::of(2));
      Traced::end();
    });
    Watch watch(segment.fd());
    while (dead.step(Step::instruction, 1) && !watch.changed()) {
    }
  }
  void child(Line& test) {
    Segment own = join();
    auto publisher = own.find<Slot<Value>>("slot").publisher();
    const Value value = Value::of(3);
    Traced::begin();
    const Status status = publisher.publish(value);
    Traced::end();
    test.say(to_string(status));
  }
  void others() { EXPECT_LE(segment.recover_dead(), 1U); }
  void after(const std::string& said) {
    EXPECT_EQ(said, "ready");
    Value value{};
    EXPECT_EQ(slot.pull(value).version, 2U);
    EXPECT_EQ(value.number, 3U);
  }
  Slot<Value> slot = segment.open<Slot<Value>>("slot", {.views = 0, .publishers = 2, .buffers = 2});
};

TEST_F(Stopped, before_it_looks_for_a_dead_publisher_gets_the_buffer_that_others_freed) {
  stop_everywhere([] { return PublishAfterDeath(); });
}

// ---- task queue ---------------------------------------------------------------------------------

struct QueueScene : Scene {
  using Queue = TaskQueue<Value>;
  static constexpr std::uint32_t capacity = 64;

  void push(std::uint64_t count) {
    for (; count != 0; --count) {
      EXPECT_EQ(queue.push(Value::of(pushed++), long_enough()), Status::ready);
    }
  }
  void pop(Deadline deadline) {
    Task<Value> task = queue.pop(deadline);
    if (!task) return;
    EXPECT_TRUE(task.payload().whole());
    EXPECT_TRUE(done.insert(task.payload().number).second) << "a task was given out twice";
    EXPECT_EQ(task.tries(), given_back.count(task.payload().number) + 1);
    EXPECT_EQ(task.complete(), Status::ready);
  }
  // Several laps of the ring, until nothing is to be had.
  void push_and_pop() {
    for (int i = 0; i < 20; ++i) {
      push(10);
      for (int k = 0; k < 10; ++k) pop(long_enough());
    }
    nobody_is_taken_for_dead();
    for (std::size_t before = done.size() + 1; before != done.size();) {
      before = done.size();
      pop(after_two_looks());
    }
  }
  void all_is_done() {
    push_and_pop();
    EXPECT_EQ(done.size(), pushed);
    const LeaseCounts left = queue.count();
    EXPECT_EQ(left.filling + left.waiting + left.leased, 0U);
  }

  std::uint64_t pushed = 0;
  std::set<std::uint64_t> done;
  std::set<std::uint64_t> given_back;
  Queue queue = segment.open<Queue>("queue", {capacity});
};

struct Push : QueueScene {
  static constexpr std::uint64_t theirs = 1'000'000;
  void child(Line& test) {
    Segment own = join();
    Queue to = own.find<Queue>("queue");
    const Value value = Value::of(theirs);
    Traced::begin();
    const Status status = to.push(value);
    Traced::end();
    test.say(to_string(status));
  }
  void others() { push_and_pop(); }
  void after(const std::string& said) {
    EXPECT_EQ(said, "ready");
    push_and_pop();
    EXPECT_EQ(done.erase(theirs), 1U) << "the task of the stopped one is lost";
    all_is_done();
  }
};

TEST_F(Stopped, in_push_holds_up_nobody_and_its_task_is_done) {  // QUEUE-1 QUEUE-2
  stop_everywhere([] { return Push(); });
}

struct Pop : QueueScene {
  Pop() { push(3); }
  void child(Line& test) {
    Segment own = join();
    Queue from = own.find<Queue>("queue");
    Traced::begin();
    Task<Value> task = from.pop(long_enough());
    Traced::end();
    const std::uint64_t number = task ? task.payload().number : UINT64_MAX;
    test.say(std::to_string(number) + " " + to_string(task.complete()));
  }
  void others() {
    push_and_pop();
    push(1);  // for the child, should it have none
  }
  void after(const std::string& said) {
    const std::uint64_t number = std::stoull(said);
    EXPECT_EQ(said, std::to_string(number) + " ready");
    EXPECT_TRUE(done.insert(number).second) << "its task was stolen";
    all_is_done();
  }
};

TEST_F(Stopped, in_pop_holds_up_nobody_and_keeps_its_task) {  // QUEUE-1
  stop_everywhere([] { return Pop(); });
}

// The child has task 0 and ends it.
struct EndOfTask : QueueScene {
  explicit EndOfTask(bool done_well) : completes(done_well) { push(3); }
  void child(Line& test) {
    Segment own = join();
    Queue from = own.find<Queue>("queue");
    Task<Value> task = from.pop(long_enough());
    Traced::begin();
    const Status status = completes ? task.complete() : task.fail();
    Traced::end();
    test.say(to_string(status));
  }
  void meet() {
    if (!completes) given_back.insert(0);
  }
  void others() {
    push_and_pop();
    if (completes) {
      EXPECT_EQ(done.count(0), 0U) << "its task was stolen";
    }
  }
  void after(const std::string& said) {
    EXPECT_EQ(said, "ready");
    if (completes) done.insert(0);
    all_is_done();
  }
  bool completes;
};

TEST_F(Stopped, in_complete_holds_up_nobody_and_keeps_its_task) {  // QUEUE-3
  stop_everywhere([] { return EndOfTask(true); });
}
TEST_F(Stopped, in_fail_holds_up_nobody_and_its_task_is_done_once_more) {  // QUEUE-4
  stop_everywhere([] { return EndOfTask(false); });
}

// The child has task 0, for longer than it may, and ends it with a result. Either it is in time, or others
// do the task; its result is that of who ended it.
struct LateResult : Scene {
  using Queue = TaskQueue<Value>;
  static constexpr std::uint64_t theirs = 1000, ours = 2000;

  void child(Line& test) {
    Segment own = join();
    Queue from = own.find<Queue>("queue");
    Task<Value> task = from.pop(long_enough());
    const Value value = Value::of(theirs);
    Traced::begin();
    const Status status = task.complete(value);
    Traced::end();
    test.say(to_string(status));
  }
  void others() {
    Value value{};
    const bool published = queue.result(id, value, Deadline::now()) == Status::ready;
    Task<Value> task =
        queue.pop(Deadline::after(30ms));  // has seen the lease, and that it is too old
    EXPECT_FALSE(published && task) << "it was taken from one who had begun to end it";
    if (!task) return;
    taken = true;
    EXPECT_EQ(task.id(), id);
    EXPECT_EQ(task.tries(), 2U);
    EXPECT_EQ(task.complete(Value::of(ours)), Status::ready);
    nobody_is_taken_for_dead();
  }
  void after(const std::string& said) {
    EXPECT_EQ(said, taken ? "lost_lease" : "ready");
    Value value{};
    EXPECT_EQ(queue.result(id, value, Deadline::now()), Status::ready);
    EXPECT_EQ(value.number, taken ? ours : theirs);
    EXPECT_TRUE(value.whole());
    EXPECT_EQ(queue.stats().expired, taken ? 1U : 0U);
    for (std::uint64_t i = 0; i < 64; ++i) {
      EXPECT_EQ(queue.try_push(Value::of(i)).status, Status::ready) << "slot " << i << " is lost";
    }
  }
  bool taken = false;
  Queue queue = segment.open<Queue>(
      "queue", {.capacity = 64, .lease_timeout = 1ms, .result_bytes = sizeof(Value), .results = 4});
  TaskId id = queue.push(Value::of(0)).id;
};

TEST_F(Stopped,
       in_complete_is_in_time_or_has_lost_its_lease_and_changes_nothing) {  // QUEUE-1 QUEUE-3
  stop_everywhere([] { return LateResult(); });
}

// ---- barrier ------------------------------------------------------------------------------------

// The barrier alone waits for one that is stopped, since it lives. It says for whom.
struct BarrierScene : Scene {
  explicit BarrierScene(const Barrier::Options& options)
      : barrier(segment.open<Barrier>("barrier", options)) {}

  void pass_or_hear_who_is_missing() {
    const Barrier::Outcome outcome = mine.arrive_and_wait(after_two_looks());
    EXPECT_FALSE(outcome.died);
    if (outcome.status == Status::ready) return;
    EXPECT_EQ(outcome.status, Status::timeout) << to_string(outcome.status);
    std::array<Owner, 4> missing{};
    const std::size_t count = barrier.missing(missing);
    if (count == 0) {  // it has arrived, and this process got no time to look and end the epoch
      EXPECT_EQ(mine.wait(long_enough()).status, Status::ready);
      return;
    }
    EXPECT_EQ(count, 1U);
    EXPECT_EQ(missing[0], the_child);
    EXPECT_EQ(barrier.members(), 2U);
  }
  void others() {
    nobody_is_taken_for_dead();
    for (int i = 0; i < 3; ++i) pass_or_hear_who_is_missing();
  }
  // The child has left, or is about to.
  void after(const std::string& said) {
    EXPECT_EQ(said, "ready");
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(mine.arrive_and_wait(long_enough()).status, Status::ready);
    }
    EXPECT_TRUE(test::eventually([&] { return barrier.members() == 1; }));
  }

  Barrier barrier;
  Barrier::Party mine = barrier.join();
};

// As the first or as the last of two.
struct Arrive : BarrierScene {
  explicit Arrive(bool as_last) : BarrierScene({.parties = 2, .max_parties = 2}), last(as_last) {}
  void child(Line& test) {
    Segment own = join();
    Barrier::Party party = own.find<Barrier>("barrier").join(long_enough());
    Traced::begin();
    (void)party.arrive();
    Traced::end();
    const Barrier::Outcome outcome = party.wait(long_enough());
    EXPECT_EQ(outcome.epoch, 1U);
    test.say(to_string(outcome.status));
  }
  void meet() {
    if (last) {
      EXPECT_EQ(mine.arrive(), Status::ready);
    }
  }
  bool last;
};

TEST_F(Stopped, in_arrive_as_the_first_is_waited_for_and_named) {  // BARRIER-2
  stop_everywhere([] { return Arrive(false); });
}
TEST_F(Stopped, in_arrive_as_the_last_is_waited_for_and_named) {  // BARRIER-1 BARRIER-2
  stop_everywhere([] { return Arrive(true); });
}

struct Leave : BarrierScene {
  Leave() : BarrierScene({.parties = 2, .max_parties = 2}) {}
  void child(Line& test) {
    Segment own = join();
    Barrier::Party party = own.find<Barrier>("barrier").join(long_enough());
    Traced::begin();
    party.leave();
    Traced::end();
    test.say("ready");
  }
};

TEST_F(Stopped, in_leave_is_waited_for_and_named) {
  stop_everywhere([] { return Leave(); });
}

struct Join : BarrierScene {
  Join() : BarrierScene({.parties = 1, .max_parties = 2}) {}
  void child(Line& test) {
    Segment own = join();
    auto from = own.find<Barrier>("barrier");
    Traced::begin();
    Barrier::Party party = from.join(long_enough());
    Traced::end();
    const std::uint64_t ended = from.epoch();
    test.say("ready");
    const Barrier::Outcome came = party.wait(long_enough());
    EXPECT_GE(came.epoch, ended) << "others do not wait for it yet";
    EXPECT_EQ(party.arrive_and_wait(long_enough()).epoch, came.epoch + 1);
  }
};

TEST_F(Stopped, in_join_is_waited_for_and_named) {  // BARRIER-4
  stop_everywhere([] { return Join(); });
}

// ---- board --------------------------------------------------------------------------------------

struct TakeAndFinish : Scene {
  void child(Line& test) {
    Segment own = join();
    auto from = own.find<Board>("board");
    std::uint32_t item = 0;
    Traced::begin();
    const Status status = from.take(1, item, long_enough());
    if (status == Status::ready) from.finish(item);
    Traced::end();
    test.say(to_string(status));
  }
  void others() {
    nobody_is_taken_for_dead();
    std::uint32_t item = 0;
    Status status = Status::ready;
    while ((status = board.take(1, item, after_two_looks())) == Status::ready) {
      EXPECT_FALSE(taken[item]) << "its item was stolen";
      taken[item] = true;
      board.finish(item);
    }
    EXPECT_TRUE(status == Status::timeout || status == Status::empty) << to_string(status);
    EXPECT_EQ(status == Status::empty, board.rounds_done() == 1);
    ours = static_cast<std::size_t>(std::count(taken.begin(), taken.end(), true));
  }
  // The child has done what was left, or had come too late.
  void after(const std::string& said) {
    EXPECT_GE(ours, 1U);
    EXPECT_EQ(said, ours == 2 ? "empty" : "ready");
    EXPECT_EQ(board.rounds_done(), 1U);
  }

  std::array<bool, 2> taken{};
  std::size_t ours = 0;
  Board board = segment.open<Board>("board", {.items = 2});
};

TEST_F(Stopped, at_an_item_of_a_board_keeps_it) {  // BOARD-1
  stop_everywhere([] { return TakeAndFinish(); });
}

// ---- segment ------------------------------------------------------------------------------------

struct Create : Scene {
  using Values = SharedBuffer<std::uint64_t>;
  void child(Line& test) {
    Segment own = join();
    std::optional<Values> made;
    Traced::begin();
    made.emplace(own.open<Values>("x", {600}, 10s));
    Traced::end();
    test.say(std::to_string((*made)[599]));
  }
  // "x" is made by us, or by the child and then not to be had. Other names are no matter.
  void others() {
    nobody_is_taken_for_dead();
    EXPECT_NO_THROW(segment.open<Values>("y", {10}));
    EXPECT_NO_THROW(segment.find<Values>("y"));
    try {
      segment.open<Values>("x", {600}, 12ms)[599] = 7;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::timeout) << error.what();
      blocked = true;
    }
    EXPECT_NO_THROW(segment.open<Values>("z", {10}));
  }
  void after(const std::string& said) {
    EXPECT_EQ(said, blocked ? "0" : "7") << "it was made twice";
    EXPECT_NO_THROW(segment.find<Values>("x"));
  }
  bool blocked = false;
};

TEST_F(Stopped, while_it_makes_a_name_blocks_that_name_alone) {  // DIR-1 DIR-2
  stop_everywhere([] { return Create(); });
}

struct Adopt : Scene {
  void child(Line& test) {
    Traced::begin();
    Segment own = join();
    Traced::end();
    test.say(std::to_string(own.peers().self().index()));
  }
  void others() {
    nobody_is_taken_for_dead();
    Segment one = join();
    Segment other = join();
    EXPECT_NE(one.peers().self(), other.peers().self());
  }
  void after(const std::string& /*said*/) {}
};

TEST_F(Stopped, while_it_joins_a_segment_holds_up_nobody) {  // PART-1
  stop_everywhere([] { return Adopt(); });
}

// ---- recovery -----------------------------------------------------------------------------------

// A third process died with one of everything in its hands. The child is stopped while it recovers
// that one. Others recover it too; a newcomer gets its place, and takes the very same things.
struct Recover : OneOfEverything {
  Recover() {
    Traced dead = holder();
    dead.process().kill();
  }
  // It stands in publish, in the middle of making an object. Its buffer is claimed.
  Traced holder() const {
    Traced process([this](Line& test) {
      test.say(hold_all([](Values::Publisher& publishing) {
        Traced::begin();
        (void)publishing.publish(Value::of(2));
        Traced::end();
      }));
    });
    Watch watch(segment.fd());
    while (process.step(Step::instruction, 1) && !watch.changed()) {
    }
    return process;
  }

  void child(Line& test) {
    Segment own = join();
    Traced::begin();
    const std::size_t found = own.recover_dead();
    Traced::end();
    test.say(std::to_string(found));
  }
  void meet() {}
  int watched() const { return segment.fd(); }

  void others() {
    EXPECT_LE(segment.recover_dead(), 1U);
    EXPECT_EQ(segment.recover_dead(), 0U);
    // The place of the dead in the barrier comes free when the epoch has ended that it missed.
    EXPECT_EQ(mine.arrive_and_wait(long_enough()).status, Status::ready);
    EXPECT_EQ(mine.arrive_and_wait(long_enough()).status, Status::peer_died);
    newcomer.emplace(holder());
    newcomer->stop();
    EXPECT_EQ(segment.participants().size(), 3U);
    EXPECT_EQ(segment.recover_dead(), 0U);
    nothing_is_taken_from_the_newcomer();
  }
  void nothing_is_taken_from_the_newcomer() {
    const auto living = segment.participants();
    EXPECT_TRUE(living.size() > 1 && living[1].index == 1) << "its place";
    EXPECT_EQ(publisher.publish(Value::of(2)), Status::busy) << "its view or its buffer";
    EXPECT_THROW(slot.reader(), Error) << "its view";
    EXPECT_THROW(slot.publisher(), Error) << "its place as a publisher";
    EXPECT_EQ(queue.count().leased, 1U);
    EXPECT_EQ(queue.count().filling, 1U);
    EXPECT_EQ(barrier.members(), 2U);
    std::uint32_t item = 0;
    EXPECT_EQ(board.take(1, item, Deadline::now()), Status::timeout);
    EXPECT_THROW(group.join(Deadline::now()), Error) << "its place in the group";
    try {
      segment.open<Values>("new", options, 1ms);
      ADD_FAILURE() << "the name that it makes";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Errc::timeout) << error.what();
    }
  }

  void after(const std::string& said) {
    EXPECT_TRUE(said == "0" || said == "1") << said;
    nothing_is_taken_from_the_newcomer();
    EXPECT_EQ(mine.arrive_and_wait(long_enough()).status, Status::ready);  // in which it came
    EXPECT_EQ(mine.arrive(), Status::ready);
    EXPECT_EQ(mine.wait(Deadline::now()).status, Status::timeout);
    newcomer->process().resume();
    EXPECT_EQ(newcomer->process().hear(),
              "commit ready, complete ready, view whole, group ready, epoch 4 ready");
    EXPECT_EQ(mine.wait(long_enough()).status, Status::ready);
    EXPECT_EQ(newcomer->process().join(), 0);
    Value value{};
    EXPECT_EQ(slot.pull(value).version, 2U);
    EXPECT_TRUE(value.whole());
    EXPECT_EQ(board.rounds_done(), 1U);
    EXPECT_EQ(segment.find<Values>("new").version(), 0U);
    Task<Value> task = queue.pop(long_enough());
    EXPECT_TRUE(task && task.payload().number == 1);
    EXPECT_EQ(task.complete(), Status::ready);
  }

  std::optional<Traced> newcomer;
};

TEST_F(Stopped, in_a_recovery_holds_up_nobody_and_later_hurts_no_newcomer) {  // PART-2 PART-3
  stop_everywhere([] { return Recover(); });
}

}  // namespace
}  // namespace heddle

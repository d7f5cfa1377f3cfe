#include "heddle/shm/observer.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "heddle/shm/segment.hpp"
#include "heddle/sync/slot.hpp"
#include "heddle/sync/task_queue.hpp"
#include "support/process.hpp"
#include "support/sample.hpp"

namespace heddle {
namespace {

using test::Line;
using test::Process;
using test::Sample;

// The test's process makes the segment and takes part; a child observes.
class ObserverProcess : public testing::Test {
 protected:
  ObserverProcess()
      : name_("observer-test-" + std::to_string(getpid())),
        segment_(Segment::create(name_, {.bytes = std::size_t{1} << 16})) {}

  std::vector<std::byte> image() {
    std::vector<std::byte> bytes(segment_.bytes());
    EXPECT_EQ(pread(segment_.fd(), bytes.data(), bytes.size(), 0),
              static_cast<ssize_t>(bytes.size()));
    return bytes;
  }
  static Errc error_of(const std::function<void()>& act) {
    try {
      act();
    } catch (const Error& error) {
      return error.code();
    }
    ADD_FAILURE() << "no error";
    return Errc::corrupt;
  }

  const std::string name_;
  Segment segment_;
};

TEST_F(ObserverProcess, reads_and_waits_and_leaves_no_trace) {
  auto slot = segment_.open<Slot<Sample>>("value", {});
  auto publisher = slot.publisher();
  Sample value;
  value.fill(1);
  ASSERT_EQ(publisher.publish(value), Status::ready);
  const std::vector<std::byte> before = image();
  Process child([&](Line& test) {
    Observer observer = Observer::open(name_);
    auto seen = observer.find<Slot<Sample>>("value");
    Sample copy;
    EXPECT_EQ(seen.pull(copy).version, 1U);
    EXPECT_TRUE(copy.whole());
    EXPECT_EQ(copy.words[0], 1U);
    EXPECT_EQ(seen.wait_newer(1, Deadline::after(std::chrono::milliseconds(20))), Status::timeout);
    test.say("waits");
    test.hear();  // until the image was compared
    EXPECT_EQ(seen.wait_newer(1, Deadline::after(test::patience), WaitStrategy::sleep),
              Status::ready);
    EXPECT_EQ(seen.pull(copy).version, 2U);
    EXPECT_EQ(copy.words[0], 2U);
  });
  ASSERT_EQ(child.hear(), "waits");
  EXPECT_EQ(segment_.participants().size(), 1U);
  EXPECT_TRUE(image() == before) << "an observer has written";
  child.say("go on");
  value.fill(2);
  ASSERT_EQ(publisher.publish(value), Status::ready);
  EXPECT_EQ(child.join(), 0);
}

TEST_F(ObserverProcess, is_refused_what_would_write) {
  auto queue = segment_.open<TaskQueue<int>>("tasks", {});
  static_cast<void>(segment_.open<Slot<int>>("value", {}));
  ASSERT_EQ(queue.push(1), Status::ready);
  const std::vector<std::byte> before = image();
  Process child([&](Line&) {
    Observer observer = Observer::open(name_);
    auto tasks = observer.find<TaskQueue<int>>("tasks");
    EXPECT_EQ(tasks.try_push(2), Status::closed);
    EXPECT_EQ(tasks.try_pop().status(), Status::closed);
    EXPECT_EQ(tasks.close(), Status::closed);
    auto seen = observer.find<Slot<int>>("value");
    EXPECT_EQ(error_of([&] { static_cast<void>(seen.publisher()); }), Errc::closed);
    EXPECT_EQ(error_of([&] { static_cast<void>(seen.reader()); }), Errc::closed);
  });
  EXPECT_EQ(child.join(), 0);
  EXPECT_TRUE(image() == before) << "an observer has written";
}

TEST_F(ObserverProcess, reads_what_a_queue_holds_its_dead_letters_and_results_and_leaves_no_trace) {
  using Queue = TaskQueue<int>;
  auto queue = segment_.open<Queue>("tasks", {.capacity = 64,
                                              .lanes = 2,
                                              .max_tries = 1,
                                              .lease_timeout = std::chrono::hours(1),
                                              .result_bytes = 8});
  const Pushed done = queue.push(1), dead = queue.push(2), leased = queue.push(3);
  const Pushed waiting = queue.push(4, Deadline::never(), {.lane = 1});
  ASSERT_EQ(queue.pop().complete(std::uint64_t{11}), Status::ready);
  ASSERT_EQ(queue.pop().fail("it says why"), Status::ready);
  Task<int> task = queue.pop();
  ASSERT_EQ(task.id(), leased.id);
  const std::vector<std::byte> before = image();
  Process child([&](Line& test) {
    Observer observer = Observer::open(name_);
    auto seen = observer.find<Queue>("tasks");
    const QueueStats stats = seen.stats();
    EXPECT_EQ(stats.pushed, 4U);
    EXPECT_EQ(stats.now.waiting, 1U);
    EXPECT_EQ(stats.now.leased, 1U);
    EXPECT_EQ(stats.now.dead, 1U);
    EXPECT_EQ(stats.died, 1U);
    EXPECT_NE(stats.now.oldest_ns, 0);
    const std::vector<DeadLetter> letters = seen.dead_letters();
    EXPECT_EQ(letters.size(), 1U);
    EXPECT_EQ(letters.at(0).id, dead.id);
    EXPECT_EQ(letters.at(0).reason, "it says why");
    EXPECT_EQ(letters.at(0).worker, static_cast<std::uint32_t>(getppid()));
    std::uint64_t result = 0;
    EXPECT_EQ(seen.result(done.id, result), Status::ready);
    EXPECT_EQ(result, 11U);
    EXPECT_EQ(seen.result(dead.id, result), Status::failed);
    EXPECT_EQ(seen.result(waiting.id + 2, result), Status::invalid);
    const Deadline soon = Deadline::after(std::chrono::milliseconds(20));
    EXPECT_EQ(seen.result(leased.id, result, soon), Status::timeout);
    // What would write is refused.
    EXPECT_EQ(seen.retry(dead.id), Status::closed);
    EXPECT_EQ(seen.drop(dead.id), Status::closed);
    EXPECT_EQ(seen.reopen(), Status::closed);
    EXPECT_EQ(seen.reserve().status(), Status::closed);
    test.say("waits");
    test.hear();  // until the image was compared
    seen.wait_strategy(WaitStrategy::sleep);
    EXPECT_EQ(seen.result(leased.id, result, Deadline::after(test::patience)), Status::ready);
    EXPECT_EQ(result, 33U);
  });
  ASSERT_EQ(child.hear(), "waits");
  EXPECT_TRUE(image() == before) << "an observer has written";
  child.say("go on");
  ASSERT_EQ(task.complete(std::uint64_t{33}), Status::ready);
  EXPECT_EQ(child.join(), 0);
}

TEST_F(ObserverProcess, says_what_is_not_there_and_awaits_what_is_made) {
  EXPECT_EQ(error_of([] { Observer::open("observer-test-no-such"); }), Errc::not_found);
  Observer observer = Observer::open(name_);
  EXPECT_EQ(error_of([&] { observer.find<Slot<int>>("value"); }), Errc::not_found);
  static_cast<void>(segment_.open<Slot<int>>("value", {}));
  EXPECT_EQ(observer.find<Slot<int>>("value").version(), 0U);
  EXPECT_EQ(error_of([&] { observer.find<Slot<float>>("value"); }), Errc::type_mismatch);
}

TEST_F(ObserverProcess, keeps_what_it_sees_when_all_participants_have_gone) {
  Observer observer = Observer::open(name_);
  Process child([&](Line&) {
    Segment segment = Segment::open(name_);
    auto slot = segment.open<Slot<int>>("value", {});
    auto publisher = slot.publisher();
    EXPECT_EQ(publisher.publish(7), Status::ready);
  });
  ASSERT_EQ(child.join(), 0);
  { Segment gone = std::move(segment_); }
  EXPECT_EQ(error_of([&] { Observer::open(name_); }), Errc::not_found) << "it kept the name";
  int value = 0;
  EXPECT_EQ(observer.find<Slot<int>>("value").pull(value).version, 1U);
  EXPECT_EQ(value, 7);
}

}  // namespace
}  // namespace heddle

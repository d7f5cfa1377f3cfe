#include <gtest/gtest.h>

#include "heddle/shm/segment.hpp"
#include "heddle/sync/slot.hpp"
#include "support/process.hpp"
#include "support/sample.hpp"

namespace heddle {
namespace {

using test::Line;
using test::Process;
using test::Sample;

class SlotProcess : public testing::Test {
 protected:
  SlotProcess()
      : name_("slot-test-" + std::to_string(getpid())),
        segment_(Segment::create(name_, {.bytes = std::size_t{1} << 20})) {}

  const std::string name_;
  Segment segment_;
};

TEST_F(SlotProcess, who_opens_it_with_other_options_is_told_both_and_finds_it_as_it_is) {
  static_cast<void>(segment_.open<Slot<float[]>>("value", {.count = 4}));
  Process other([&](Line& test) {
    Segment segment = Segment::open(name_);
    try {
      static_cast<void>(segment.open<Slot<float[]>>("value", {.count = 3}));
      test.say("nothing");
    } catch (const Error& error) {
      test.say(error.code() == Errc::type_mismatch ? error.what() : "another error");
    }
    EXPECT_EQ(segment.open<Slot<float[]>>("value", {.count = 4, .timed = false}).count(), 4U);
    EXPECT_EQ(segment.find<Slot<float[]>>("value").count(), 4U);
  });
  EXPECT_EQ(other.hear(),
            "object \"value\" was made with other options: it has 4 elements, not 3; find() takes "
            "it as it is");
  EXPECT_EQ(other.join(), 0);
}

TEST_F(SlotProcess, the_last_value_survives_its_publisher) {
  auto slot = segment_.open<Slot<int>>("value", {});
  Process publisher([&](Line& test) {
    Segment segment = Segment::open(name_);
    auto theirs = segment.open<Slot<int>>("value", {});
    auto publishing = theirs.publisher();
    for (int i = 1; i <= 100; ++i) EXPECT_EQ(publishing.publish(i), Status::ready);
    test.say("published");
    test.hear();
  });
  ASSERT_EQ(publisher.hear(), "published");
  publisher.kill();
  EXPECT_EQ(slot.wait_newer(100, Deadline::after(test::patience)), Status::peer_died);
  int value = 0;
  EXPECT_EQ(slot.pull(value).version, 100U);
  EXPECT_EQ(value, 100);
}

TEST_F(SlotProcess,
       publishers_killed_at_any_instruction_tear_nothing_and_leak_no_buffer) {  // SLOT-1, SLOT-2
  // Three buffers for one publisher and one view: a leaked one would be missed at once.
  const Slot<Sample>::Options options{.views = 1, .publishers = 1};
  auto slot = segment_.open<Slot<Sample>>("value", options);
  auto reader = slot.reader();
  Sample copy;
  Version newest = 0;
  for (int round = 0; round < 150; ++round) {
    Process publisher([&](Line& test) {
      Segment segment = Segment::open(name_);
      auto theirs = segment.open<Slot<Sample>>("value", options);
      auto publishing = theirs.publisher();
      test.say("begins");
      Sample sample;
      for (std::uint64_t i = theirs.version() + 1;; ++i) {
        sample.fill(i);
        if (publishing.publish(sample) != Status::ready) _exit(9);
      }
    });
    ASSERT_EQ(publisher.hear(), "begins");
    // Some publications, so that it is killed in the middle of one of them.
    const Version enough = newest + 1 + static_cast<Version>(round % 7);
    ASSERT_TRUE(test::eventually([&] { return slot.version() > enough; }));
    const auto view = reader.pull();
    ASSERT_TRUE(view);
    publisher.kill();
    ASSERT_EQ(publisher.join(), -SIGKILL) << "it was told busy: a buffer has leaked";
    const Reading reading = slot.pull(copy);
    ASSERT_TRUE(reading);
    EXPECT_TRUE(copy.whole());
    EXPECT_EQ(copy.words[0], reading.version);  // the value carries its number
    EXPECT_TRUE(view->whole());
    EXPECT_GE(reading.version, newest);
    newest = reading.version;
  }
}

TEST_F(SlotProcess, a_killed_readers_view_is_given_back_when_its_buffer_is_needed) {
  const Slot<int>::Options options{.views = 1, .publishers = 1, .buffers = 2};
  auto slot = segment_.open<Slot<int>>("value", options);
  auto publisher = slot.publisher();
  ASSERT_EQ(publisher.publish(1), Status::ready);
  Process viewer([&](Line& test) {
    Segment segment = Segment::open(name_);
    auto theirs = segment.open<Slot<int>>("value", options);
    auto reader = theirs.reader();
    const auto view = reader.pull();
    test.say(view ? "views" : "nothing");
    test.hear();
  });
  ASSERT_EQ(viewer.hear(), "views");
  ASSERT_EQ(publisher.publish(2), Status::ready);
  ASSERT_EQ(publisher.publish(3), Status::busy);
  viewer.stop();
  EXPECT_EQ(publisher.publish(3), Status::busy);  // it lives: its view is not taken from it
  viewer.kill();
  EXPECT_EQ(publisher.publish(3), Status::ready);
}

TEST_F(SlotProcess, a_stopped_reader_does_not_hold_publishers_up) {
  const Slot<int>::Options options{.views = 1, .publishers = 1};
  auto slot = segment_.open<Slot<int>>("value", options);
  auto publisher = slot.publisher();
  ASSERT_EQ(publisher.publish(1), Status::ready);
  Process viewer([&](Line& test) {
    Segment segment = Segment::open(name_);
    auto theirs = segment.open<Slot<int>>("value", options);
    auto reader = theirs.reader();
    const auto view = reader.pull();
    test.say("views");
    test.hear();
    test.say(std::to_string(*view));
  });
  ASSERT_EQ(viewer.hear(), "views");
  viewer.stop();
  for (int i = 2; i <= 10'000; ++i) ASSERT_EQ(publisher.publish(i), Status::ready);
  viewer.resume();
  viewer.say("go on");
  EXPECT_EQ(viewer.hear(), "1");  // what it saw is still what it sees
}

TEST_F(SlotProcess, a_waiter_killed_in_its_sleep_disturbs_nobody) {
  auto slot = segment_.open<Slot<int>>("value", {});
  auto publisher = slot.publisher();
  Process sleeper([&](Line& test) {
    Segment segment = Segment::open(name_);
    auto theirs = segment.open<Slot<int>>("value", {});
    test.say("sleeps");
    (void)theirs.wait_newer(0, Deadline::never(), WaitStrategy::sleep);
  });
  ASSERT_EQ(sleeper.hear(), "sleeps");
  sleeper.kill();
  Process other([&](Line& test) {
    Segment segment = Segment::open(name_);
    auto theirs = segment.open<Slot<int>>("value", {});
    test.say("waits");
    EXPECT_EQ(theirs.wait_newer(0, Deadline::after(test::patience), WaitStrategy::sleep),
              Status::ready);
  });
  ASSERT_EQ(other.hear(), "waits");
  ASSERT_EQ(publisher.publish(1), Status::ready);
  EXPECT_EQ(other.join(), 0);
}

}  // namespace
}  // namespace heddle

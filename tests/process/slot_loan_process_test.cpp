// Loans, conditional publications and requests, with real processes and real kills.

#include <gtest/gtest.h>

#include "heddle/shm/segment.hpp"
#include "heddle/sync/replica.hpp"
#include "support/process.hpp"
#include "support/sample.hpp"

namespace heddle {
namespace {

using test::Line;
using test::Process;
using test::Sample;

class SlotLoanProcess : public testing::Test {
 protected:
  SlotLoanProcess()
      : name_("slot-loan-test-" + std::to_string(getpid())),
        segment_(Segment::create(name_, {.bytes = std::size_t{1} << 20})) {}

  const std::string name_;
  Segment segment_;
};

TEST_F(SlotLoanProcess, what_the_dead_had_on_loan_is_never_seen_and_its_buffer_comes_back) {
  const Slot<Sample>::Options options{.views = 0, .publishers = 2, .buffers = 2};
  auto slot = segment_.open<Slot<Sample>>("value", options);
  auto publisher = slot.publisher();
  Sample sample;
  sample.fill(1);
  ASSERT_EQ(publisher.publish(sample), Status::ready);
  Process loaner([&](Line& test) {
    Segment segment = Segment::open(name_);
    auto theirs = segment.open<Slot<Sample>>("value", options);
    auto its_publisher = theirs.publisher();
    auto loan = its_publisher.loan();
    if (!loan) _exit(9);
    loan->words[0] = 77;
    test.say("half-written");
    test.hear();
  });
  ASSERT_EQ(loaner.hear(), "half-written");
  sample.fill(2);
  ASSERT_EQ(publisher.publish(sample), Status::busy);
  const auto holders = slot.holders();
  ASSERT_EQ(holders.size(), 1U);
  EXPECT_EQ(holders[0].what, SlotHolder::What::publication);
  const auto who = segment_.participant(holders[0].owner);
  ASSERT_TRUE(who);
  EXPECT_EQ(who->pid, static_cast<std::uint64_t>(loaner.pid()));
  loaner.kill();
  EXPECT_EQ(slot.holders().size(), 1U);
  EXPECT_FALSE(segment_.participant(holders[0].owner)) << "it is dead";
  ASSERT_TRUE(slot.pull(sample));
  EXPECT_TRUE(sample.whole());
  EXPECT_EQ(sample.words[0], 1U);
  sample.fill(2);
  EXPECT_EQ(publisher.publish(sample, Deadline::after(test::patience)), Status::ready);
}

TEST_F(SlotLoanProcess, changes_by_processes_that_are_killed_are_made_whole_or_not_at_all) {
  const Slot<Sample>::Options options{.views = 0, .publishers = 2};
  auto slot = segment_.open<Slot<Sample>>("value", options);
  auto publisher = slot.publisher();
  Sample sample;
  sample.fill(0);
  ASSERT_EQ(publisher.publish(sample), Status::ready);
  // Each change adds one: the value is its version, less one.
  const auto change = [](Slot<Sample>& its, Slot<Sample>::Publisher& changing) {
    Sample value;
    const Reading reading = its.pull(value);
    if (!reading || !value.whole() || value.words[0] != reading.version - 1) return Status::invalid;
    value.fill(value.words[0] + 1);
    return changing.compare_and_publish(reading.version, value);
  };
  for (int round = 0; round < 50; ++round) {
    Process other([&](Line& test) {
      Segment segment = Segment::open(name_);
      auto theirs = segment.open<Slot<Sample>>("value", options);
      auto changing = theirs.publisher();
      test.say("begins");
      for (;;) {
        const Status status = change(theirs, changing);
        if (status != Status::ready && status != Status::overtaken) _exit(9);
      }
    });
    ASSERT_EQ(other.hear(), "begins");
    for (int done = 0; done < 20;) {
      const Status status = change(slot, publisher);
      ASSERT_TRUE(status == Status::ready || status == Status::overtaken) << to_string(status);
      done += status == Status::ready ? 1 : 0;
    }
    other.kill();
    ASSERT_EQ(other.join(), -SIGKILL);
  }
}

TEST_F(SlotLoanProcess, a_request_outlives_the_publisher_that_saw_it) {  // SLOT-4
  auto slot = segment_.open<Slot<int>>("value", {});
  const auto publish_on_demand = [&](Line& test, int value, bool answers) {
    Segment segment = Segment::open(name_);
    auto theirs = segment.open<Slot<int>>("value", {});
    auto publisher = theirs.publisher();
    test.say("waits");
    if (publisher.wait_for_request(Deadline::after(test::patience)) != Status::ready) _exit(9);
    test.say("asked");
    if (answers && publisher.publish(value) != Status::ready) _exit(9);
    test.hear();
  };
  Process first([&](Line& test) { publish_on_demand(test, 1, false); });
  ASSERT_EQ(first.hear(), "waits");
  int value = 0;
  ASSERT_EQ(slot.pull_fresh(value, Deadline::now()).status, Status::timeout);
  ASSERT_EQ(first.hear(), "asked");
  first.kill();
  EXPECT_EQ(slot.pull_fresh(value, Deadline::after(test::patience)).status, Status::peer_died);
  Process second([&](Line& test) { publish_on_demand(test, 2, true); });
  ASSERT_EQ(second.hear(), "waits");
  ASSERT_EQ(second.hear(), "asked");
  Replica replica(slot);
  EXPECT_EQ(replica.wait(Deadline::after(test::patience)), Status::ready);
  EXPECT_EQ(*replica, 2);
  second.kill();
  EXPECT_EQ(replica.wait(Deadline::after(test::patience)), Status::peer_died);
  EXPECT_EQ(*replica, 2);
}

TEST_F(SlotLoanProcess, whoever_asks_is_answered_though_publishers_are_killed) {
  auto slot = segment_.open<Slot<int>>("value", {});
  for (int round = 0; round < 60; ++round) {
    Process publisher([&](Line& test) {
      Segment segment = Segment::open(name_);
      auto theirs = segment.open<Slot<int>>("value", {});
      auto publishing = theirs.publisher();
      test.say("begins");
      for (int i = 0;; ++i) {
        if (publishing.wait_for_request(Deadline::never()) != Status::ready) _exit(9);
        if (publishing.publish(i) != Status::ready) _exit(9);
      }
    });
    ASSERT_EQ(publisher.hear(), "begins");
    int value = 0;
    for (int i = 0; i < 3; ++i) {
      const Version before = slot.version();
      const Reading reading = slot.pull_fresh(value, Deadline::after(test::patience));
      ASSERT_TRUE(reading) << to_string(reading.status);
      ASSERT_GT(reading.version, before);
    }
    // A request that the dying one may see, answer, or leave to the next.
    static_cast<void>(slot.pull_fresh(value, Deadline::now()));
    publisher.kill();
    ASSERT_EQ(publisher.join(), -SIGKILL) << "it was told busy: a buffer has leaked";
  }
}

}  // namespace
}  // namespace heddle

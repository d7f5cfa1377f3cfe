#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cstdint>
#include <map>
#include <vector>

#include "heddle/base/error.hpp"
#include "heddle/run/supervisor.hpp"
#include "support/process.hpp"
#include "support/supervision.hpp"

namespace heddle {
namespace {

using namespace test;

TEST(EventRing, drops_when_full_and_keeps_the_order) {
  Segment segment = small_segment();
  EventRing ring = segment.open<EventRing>("ring", {});
  for (std::uint64_t step = 0; step < EventRing::capacity; ++step) {
    ASSERT_TRUE(ring.push(event_of(step)));
  }
  EXPECT_FALSE(ring.push(event_of(77)));
  WorkerEvent event{};
  for (std::uint64_t step = 0; step < EventRing::capacity; ++step) {
    ASSERT_TRUE(ring.pop(event));
    ASSERT_EQ(event.step, step);
  }
  EXPECT_FALSE(ring.pop(event));
  EXPECT_TRUE(ring.push(event_of(78)));
  EXPECT_TRUE(ring.pop(event));
  EXPECT_EQ(event.step, 78U);
}

TEST(EventRing, events_before_a_death_are_kept_and_the_successor_goes_on) {
  Segment segment = small_segment();
  auto options = role("five_events_and_death");
  options.max_restarts = 1;
  Supervisor supervisor(segment, options);
  const auto started = only(poll_to_the_end(supervisor), Kind::started);
  ASSERT_EQ(started.size(), 2U);
  for (const Happening& worker : started) {
    for (std::uint64_t step = 1; step <= 5; ++step) {
      WorkerEvent event{};
      ASSERT_TRUE(supervisor.events(0).pop(event));
      EXPECT_EQ(event.epoch, static_cast<std::uint32_t>(worker.pid));
      EXPECT_EQ(event.step, step);
    }
  }
  WorkerEvent none{};
  EXPECT_FALSE(supervisor.events(0).pop(none));
}

TEST(EventRing, survives_workers_killed_at_any_step) {
  Segment segment = small_segment();
  std::map<std::uint32_t, std::uint64_t> last_step;  // by pid
  std::uint64_t goal = 1;
  for (int round = 0; round < 20; ++round) {
    constexpr std::size_t kills = 3;  // the next restart would wait too long
    Supervisor supervisor(segment, role("events_for_ever"));
    std::vector<Happening> log;
    last_step.clear();
    poll_until(supervisor, log, [&] {
      WorkerEvent event{};
      while (supervisor.events(0).pop(event)) {
        std::uint64_t& last = last_step[event.epoch];
        EXPECT_EQ(event.step, last + 1) << "lost, repeated or out of order";
        EXPECT_EQ(event.samples, event.step * 7) << "torn";
        EXPECT_EQ(event.loss_sum, static_cast<double>(event.step) / 2) << "torn";
        last = event.step;
        if (last != goal) continue;
        if (last_step.size() == kills + 1) return true;
        kill(static_cast<pid_t>(event.epoch), SIGKILL);
        goal = goal * 7 % 2003 + 1;
      }
      return false;
    });
    ASSERT_EQ(last_step.size(), kills + 1);
  }
}

TEST(EventRing, new_supervisor_does_not_see_events_of_an_earlier_one) {
  Segment segment = small_segment();
  {
    Supervisor first(segment, role("finish"));
    poll_to_the_end(first);
  }
  Supervisor second(segment, shell("exit 0"));
  WorkerEvent event{};
  EXPECT_FALSE(second.events(0).pop(event));
}

TEST(EventRing, is_as_large_as_the_supervisor_says) {
  Segment segment = Segment::anonymous({Supervisor::segment_bytes(5), 16, 16});
  EXPECT_NO_THROW(Supervisor(segment, shell("exit 0", 5)));
  EXPECT_THROW(Supervisor(segment, shell("exit 0", 6)), Error);
}

}  // namespace
}  // namespace heddle

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "heddle/base/error.hpp"
#include "heddle/run/supervisor.hpp"
#include "support/process.hpp"
#include "support/supervision.hpp"

namespace heddle {
namespace {

using namespace test;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(Supervisor, ends_when_every_worker_has_finished) {
  Segment segment = small_segment();
  Supervisor supervisor(segment, role("finish", 3));
  const auto log = poll_to_the_end(supervisor);
  EXPECT_EQ(supervisor.state(), State::finished);
  EXPECT_EQ(supervisor.restarts(), 0U);
  std::set<std::uint32_t> ranks;
  for (const Happening& h : only(log, Kind::finished)) ranks.insert(h.rank);
  EXPECT_THAT(ranks, ElementsAre(0, 1, 2));
  EXPECT_EQ(log.size(), 6U) << testing::PrintToString(log);
  for (std::uint32_t rank = 0; rank < 3; ++rank) {
    WorkerEvent event{};
    ASSERT_TRUE(supervisor.events(rank).pop(event));
    EXPECT_EQ(event.step, rank);  // each in its own ring, as who it was told to be
  }
  EXPECT_TRUE(supervisor.poll(Deadline::never()).empty());
  EXPECT_FALSE(has_children());
}

TEST(Supervisor, tells_workers_of_an_anonymous_segment_its_descriptor_and_what_else_was_asked) {
  Segment segment = small_segment();
  auto options = shell(
      "test $HEDDLE_RANK -lt 2 && test $HEDDLE_SIZE = 2 && test $HEDDLE_SEGMENT_FD -gt 2 &&"
      "test -z \"$HEDDLE_SEGMENT\" && test \"$EXTRA\" = 'a b'",
      2);
  options.max_restarts = 0;
  options.environment = {{"EXTRA", "a b"}};
  Supervisor supervisor(segment, options);
  const auto log = poll_to_the_end(supervisor);
  EXPECT_EQ(supervisor.state(), State::finished) << testing::PrintToString(log);
}

TEST(Supervisor, variables_that_were_asked_for_take_the_place_of_inherited_ones) {
  setenv("HOME", "/somewhere", 1);
  Segment segment = small_segment();
  auto options = role("look_at_home");
  options.environment.emplace_back("HOME", "/nowhere");
  options.max_restarts = 0;
  Supervisor supervisor(segment, options);
  const auto log = poll_to_the_end(supervisor);
  EXPECT_EQ(supervisor.state(), State::finished) << testing::PrintToString(log);
}

TEST(Supervisor, workers_join_a_segment_by_its_name) {
  const std::string name = "test.supervisor." + std::to_string(getpid());
  Segment segment = Segment::create(name, {1 << 20, 16, 16});
  auto options = role("finish");
  options.max_restarts = 0;
  Supervisor supervisor(segment, options);
  const auto log = poll_to_the_end(supervisor);
  EXPECT_EQ(supervisor.state(), State::finished) << testing::PrintToString(log);

  Supervisor second(segment, shell("test $HEDDLE_SEGMENT = " + name +
                                   " && test -z \"$HEDDLE_SEGMENT_FD\" || exit 2"));
  poll_to_the_end(second);
  EXPECT_EQ(second.state(), State::finished);
}

TEST(Supervisor, worker_has_no_input_and_no_descriptor_but_the_segments) {
  const int leak = open("/dev/zero", O_RDONLY);  // not close-on-exec
  const int input = dup(0);
  dup2(leak, 0);
  Segment anonymous = small_segment();
  Segment named = Segment::create("test.supervisor." + std::to_string(getpid()), {1 << 20, 16, 16});
  for (Segment* segment : {&anonymous, &named}) {
    auto options = role("look_at_descriptors", 2);
    options.max_restarts = 0;
    Supervisor supervisor(*segment, options);
    const auto log = poll_to_the_end(supervisor);
    EXPECT_EQ(supervisor.state(), State::finished) << testing::PrintToString(log);
  }
  dup2(input, 0);
  close(input);
  close(leak);
}

TEST(Supervisor, worker_starts_with_ordinary_signals_but_for_those_of_the_terminal) {
  sigset_t some;
  sigset_t before;
  sigemptyset(&some);
  sigaddset(&some, SIGUSR1);
  sigprocmask(SIG_BLOCK, &some, &before);
  signal(SIGPIPE, SIG_IGN);
  signal(SIGTERM, SIG_IGN);
  {
    Segment segment = small_segment();
    auto options = role("look_at_signals");
    options.max_restarts = 0;
    Supervisor supervisor(segment, options);
    const auto log = poll_to_the_end(supervisor);
    EXPECT_EQ(supervisor.state(), State::finished) << testing::PrintToString(log);
  }
  signal(SIGPIPE, SIG_DFL);
  signal(SIGTERM, SIG_DFL);
  sigprocmask(SIG_SETMASK, &before, nullptr);
}

TEST(Supervisor, pins_each_rank_to_one_core_when_asked) {
  cpu_set_t allowed;
  sched_getaffinity(0, sizeof allowed, &allowed);
  std::vector<std::uint64_t> cores;
  for (std::uint64_t core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &allowed)) cores.push_back(core);
  }
  Segment segment = small_segment();
  auto options = role("tell_core", 3);
  options.pin = true;
  options.max_restarts = 0;
  Supervisor supervisor(segment, options);
  const auto log = poll_to_the_end(supervisor);
  ASSERT_EQ(supervisor.state(), State::finished) << testing::PrintToString(log);
  for (std::uint32_t rank = 0; rank < 3; ++rank) {
    WorkerEvent event{};
    ASSERT_TRUE(supervisor.events(rank).pop(event));
    EXPECT_EQ(event.step, cores[rank % cores.size()]);
  }
}

TEST(Supervisor, program_that_is_not_there_fails_at_once_by_its_name) {
  Segment segment = small_segment();
  Supervisor::Options options;
  options.command = {"/no/such/program"};
  Supervisor supervisor(segment, options);
  const auto log = poll_to_the_end(supervisor);
  EXPECT_EQ(supervisor.state(), State::failed);
  EXPECT_EQ(supervisor.restarts(), 0U);
  ASSERT_EQ(log.back().kind, Kind::gave_up);
  EXPECT_THAT(log.back().text, HasSubstr("/no/such/program: cannot execute it: No such file"));
}

TEST(Supervisor, program_that_is_not_in_path_is_refused) {
  Segment segment = small_segment();
  Supervisor::Options options;
  options.command = {"no-such-program"};
  try {
    Supervisor supervisor(segment, options);
    FAIL() << "was not refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Errc::not_found);
    EXPECT_THAT(error.what(), HasSubstr("no-such-program"));
  }
  options.command = {"true"};
  Supervisor supervisor(segment, options);
  poll_to_the_end(supervisor);
  EXPECT_EQ(supervisor.state(), State::finished);
}

// ---- Deaths ----

TEST(Supervisor, killed_worker_is_started_again_with_its_rank) {
  Segment segment = small_segment();
  Supervisor supervisor(segment, shell("exec sleep 60", 3));
  std::vector<Happening> log;
  poll_until(supervisor, log, [&] { return count(log, Kind::started) == 3; });
  const pid_t victim = log[1].pid;
  ASSERT_EQ(log[1].rank, 1U);
  kill(victim, SIGKILL);
  log.clear();
  poll_until(supervisor, log, [&] { return count(log, Kind::started) == 1; });
  ASSERT_EQ(log.size(), 2U) << testing::PrintToString(log);
  EXPECT_EQ(log[0].kind, Kind::died);
  EXPECT_EQ(log[0].rank, 1U);
  EXPECT_EQ(log[0].pid, victim);
  EXPECT_EQ(log[0].signal, SIGKILL);
  EXPECT_EQ(log[1].rank, 1U);
  EXPECT_NE(log[1].pid, victim);
  EXPECT_EQ(kill(log[1].pid, 0), 0);
  EXPECT_EQ(supervisor.restarts(), 1U);
  EXPECT_EQ(supervisor.state(), State::running);
}

TEST(Supervisor, what_a_dead_worker_held_is_recovered_before_its_death_is_told) {
  Segment segment = small_segment();
  auto options = role("until_stopped");
  options.max_restarts = 0;
  Supervisor supervisor(segment, options);
  const pid_t pid = await_first_event(supervisor);
  ASSERT_EQ(segment.participants().size(), 2U);
  kill(pid, SIGKILL);
  std::vector<Happening> log;
  poll_until(supervisor, log, [&] { return count(log, Kind::died) == 1; });
  EXPECT_EQ(segment.recover_dead(), 0U);  // nothing is left to do
  EXPECT_EQ(segment.participants().size(), 1U);
}

TEST(Supervisor, gives_up_after_max_restarts) {
  Segment segment = small_segment();
  auto options = shell("exit 7", 2);
  options.max_restarts = 3;
  Supervisor supervisor(segment, options);
  const auto log = poll_to_the_end(supervisor);
  EXPECT_EQ(supervisor.state(), State::failed);
  EXPECT_EQ(supervisor.restarts(), 3U);
  EXPECT_LE(count(log, Kind::started), 2U + 3U);  // one may have waited for its start
  EXPECT_EQ(count(log, Kind::died), 4U);
  EXPECT_EQ(only(log, Kind::died)[0].code, 7);
  ASSERT_EQ(log.back().kind, Kind::gave_up);
  EXPECT_THAT(log.back().text, HasSubstr("exited with code 7"));
  EXPECT_THAT(log.back().text, HasSubstr("all 3 restarts"));
}

TEST(Supervisor, bad_input_is_not_tried_again) {
  Segment segment = small_segment();
  Supervisor supervisor(segment, shell("exit 2"));
  const auto log = poll_to_the_end(supervisor);
  EXPECT_EQ(supervisor.state(), State::failed);
  EXPECT_EQ(count(log, Kind::started), 1U);
  ASSERT_EQ(log.back().kind, Kind::gave_up);
  EXPECT_THAT(log.back().text, HasSubstr("exited with code 2"));
}

TEST(Supervisor, worker_that_keeps_dying_waits_longer_each_time) {
  Segment segment = small_segment();
  auto options = shell("kill -9 $$");
  options.max_restarts = 5;
  Supervisor supervisor(segment, options);
  std::vector<Happening> log;
  poll_until(supervisor, log, [&] { return count(log, Kind::died) == 1; });
  EXPECT_EQ(count(log, Kind::started), 2U) << "the first restart comes at once";
  poll_until(supervisor, log, [] { return false; });
  const auto died = only(log, Kind::died);
  const auto started = only(log, Kind::started);
  ASSERT_EQ(died.size(), 6U);
  ASSERT_EQ(started.size(), 6U);
  for (std::size_t i = 1; i < 5; ++i) {
    EXPECT_GE(started[i + 1].at - died[i].at, 10'000'000 << (i - 1)) << "restart " << i + 1;
  }
}

}  // namespace
}  // namespace heddle

// How a supervisor's run ends: killed, interrupted, stopped.

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "heddle/base/error.hpp"
#include "heddle/run/supervisor.hpp"
#include "support/process.hpp"
#include "support/supervision.hpp"

namespace heddle {
namespace {

using namespace test;
using namespace std::chrono_literals;

// Reads until `enough`; false when nothing more comes.
bool read_until(int fd, const std::function<bool(const std::string&, bool is_closed)>& enough) {
  std::string text;
  for (;;) {
    if (enough(text, false)) return true;
    pollfd ready{fd, POLLIN, 0};
    if (::poll(&ready, 1, static_cast<int>(patience.count())) != 1) return false;
    char piece[256];
    const ssize_t length = read(fd, piece, sizeof piece);
    if (length <= 0) return enough(text, true);
    text.append(piece, static_cast<std::size_t>(length));
  }
}

bool until_closed(const std::string&, bool is_closed) { return is_closed; }

// A process that supervises, with its own and its workers' standard output in a pipe: the pipe is
// closed when all of them have ended.
struct Supervised {
  explicit Supervised(Supervisor::Options options) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) std::abort();
    output = ends[0];
    process.emplace([&](test::Line&) {
      dup2(ends[1], 1);
      Segment segment = small_segment();
      Supervisor supervisor(segment, std::move(options));
      while (supervisor.state() == State::running) (void)supervisor.poll(Deadline::never());
    });
    close(ends[1]);
  }
  ~Supervised() { close(output); }
  std::optional<Process> process;
  int output = -1;
};

TEST(Supervisor, its_death_ends_its_workers) {
  Supervised run(shell("echo up; exec sleep 60", 3));
  ASSERT_TRUE(
      read_until(run.output, [](const std::string& text, bool) { return text == "up\nup\nup\n"; }));
  run.process->kill();
  EXPECT_TRUE(read_until(run.output, until_closed)) << "a worker lives on";
}

TEST(Supervisor, its_death_at_any_moment_ends_its_workers) {
  std::minstd_rand random(7);
  for (int round = 0; round < 40; ++round) {
    Supervisor::Options options;
    options.command = {"/bin/sleep", "60"};
    options.workers = 4;
    Supervised run(options);
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 8000));  // the moment
    run.process->kill();
    ASSERT_TRUE(read_until(run.output, until_closed)) << "a worker lives on in round " << round;
  }
}

TEST(Supervisor, tells_of_an_interruption_and_stop_leaves_no_child) {
  sigset_t before;
  sigprocmask(SIG_BLOCK, nullptr, &before);
  Segment segment = small_segment();
  {
    Supervisor supervisor(segment, role("until_stopped"));
    const pid_t pid = await_first_event(supervisor);
    kill(pid, SIGINT);  // Ctrl-C goes to all
    kill(getpid(), SIGINT);
    const auto seen = supervisor.poll(Deadline::after(patience));
    ASSERT_EQ(seen.size(), 1U) << testing::PrintToString(seen);
    EXPECT_EQ(seen[0].kind, Kind::interrupted);
    EXPECT_EQ(seen[0].signal, SIGINT);
    EXPECT_TRUE(supervisor.poll(Deadline::now()).empty()) << "the worker has not ignored it";
    supervisor.stop();
    EXPECT_EQ(supervisor.state(), State::stopped);
    EXPECT_FALSE(has_children());
    EXPECT_TRUE(supervisor.poll(Deadline::never()).empty());
  }
  sigset_t after;
  sigprocmask(SIG_BLOCK, nullptr, &after);
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
    EXPECT_EQ(sigismember(&after, number), sigismember(&before, number));
  }
}

TEST(Supervisor, signal_before_the_first_poll_is_told_before_anybody_starts) {
  Segment segment = small_segment();
  Supervisor supervisor(segment, shell("exec sleep 60"));
  kill(getpid(), SIGTERM);
  const auto seen = supervisor.poll(Deadline::after(patience));
  ASSERT_EQ(seen.size(), 1U);
  EXPECT_EQ(seen[0].kind, Kind::interrupted);
  EXPECT_EQ(seen[0].signal, SIGTERM);
}

TEST(StopSignals, what_an_inner_one_has_not_taken_waits_for_the_outer_one) {
  StopSignals outer;
  {
    StopSignals inner;
    kill(getpid(), SIGTERM);
  }
  EXPECT_EQ(outer.take(), SIGTERM);
  EXPECT_EQ(outer.take(), 0);
}

TEST(StopSignals, what_nobody_has_taken_takes_effect_afterwards) {
  Process process([](test::Line& line) {
    {
      StopSignals signals;
      kill(getpid(), SIGTERM);
      line.say("still here");
    }
    line.say("not reached");
  });
  EXPECT_EQ(process.hear(), "still here");
  EXPECT_EQ(process.hear(), "<gone>");
  EXPECT_EQ(process.join(), -SIGTERM);
}

TEST(Supervisor, stop_lets_workers_leave) {
  Segment segment = small_segment();
  auto options = role("until_stopped");
  options.grace = patience;
  Supervisor supervisor(segment, options);
  await_first_event(supervisor);
  supervisor.stop();
  WorkerEvent last{};
  ASSERT_TRUE(supervisor.events(0).pop(last)) << "the worker was killed";
  EXPECT_EQ(last.step, 2U);
  EXPECT_FALSE(has_children());
}

TEST(Supervisor, stop_kills_a_stopped_worker) {
  Segment segment = small_segment();
  auto options = role("until_stopped");
  options.grace = 1ms;
  Supervisor supervisor(segment, options);
  const pid_t pid = await_first_event(supervisor);
  kill(pid, SIGSTOP);
  siginfo_t info{};
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(pid), &info, WSTOPPED | WNOWAIT), 0);
  supervisor.stop();
  EXPECT_FALSE(has_children());
  EXPECT_EQ(segment.recover_dead(), 0U);
  EXPECT_EQ(segment.participants().size(), 1U);
}

TEST(Supervisor, stop_sleeps_while_it_waits) {
  Segment segment = small_segment();
  auto options = shell("exec sleep 60", 2);
  options.max_restarts = 0;
  options.grace = 300ms;
  Supervisor supervisor(segment, options);
  std::vector<Happening> log = supervisor.poll(Deadline::never());
  ASSERT_EQ(count(log, Kind::started), 2U);
  kill(log[0].pid, SIGKILL);  // this place stays empty
  kill(log[1].pid, SIGSTOP);
  siginfo_t info{};
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(log[1].pid), &info, WSTOPPED | WNOWAIT), 0);
  poll_until(supervisor, log, [] { return false; });
  ASSERT_EQ(supervisor.state(), State::failed);

  const std::clock_t before = std::clock();  // processor time
  supervisor.stop();
  EXPECT_LT(std::clock() - before, CLOCKS_PER_SEC / 20);
  EXPECT_FALSE(has_children());
}

TEST(Supervisor, another_signal_ends_the_grace_period) {
  Segment segment = small_segment();
  auto options = role("stubborn");
  options.grace = 1h;
  Supervisor supervisor(segment, options);
  await_first_event(supervisor);
  kill(getpid(), SIGINT);
  supervisor.stop();
  EXPECT_FALSE(has_children());
}

TEST(Supervisor, destructor_leaves_no_child) {
  Segment segment = small_segment();
  {
    Supervisor supervisor(segment, shell("exec sleep 60", 2));
    (void)supervisor.poll(Deadline::never());
    ASSERT_TRUE(has_children());
  }
  EXPECT_FALSE(has_children());
}

TEST(Supervisor, forked_copy_leaves_the_workers_alone) {
  Segment segment = small_segment();
  Supervisor supervisor(segment, role("until_stopped"));
  await_first_event(supervisor);
  Process copy([&](test::Line&) { supervisor.stop(); });
  EXPECT_EQ(copy.join(), 0);
  WorkerEvent last{};
  EXPECT_FALSE(supervisor.events(0).pop(last)) << "the copy has asked the worker to leave";
  supervisor.stop();
  EXPECT_TRUE(supervisor.events(0).pop(last)) << "the worker was gone already";
}

}  // namespace
}  // namespace heddle

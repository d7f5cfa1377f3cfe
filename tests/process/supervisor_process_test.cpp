#include "heddle/run/supervisor.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "heddle/base/error.hpp"
#include "heddle/run/worker.hpp"
#include "support/process.hpp"

namespace heddle {

void PrintTo(const Supervisor::Happening& happening, std::ostream* out) { *out << happening.text; }

namespace {

using test::patience;
using test::Process;
using testing::ElementsAre;
using testing::HasSubstr;
using namespace std::chrono_literals;
using Happening = Supervisor::Happening;
using Kind = Happening::Kind;
using State = Supervisor::State;

// ---- Workers: this very program, executed with HEDDLE_TEST_WORKER=role ----

constexpr int wrong = 3;  // what a worker exits with that is not as it should be

WorkerEvent event_of(std::uint64_t step) {
  return {WorkerEvent::Kind::progress, static_cast<std::uint32_t>(getpid()), step, step * 7,
          static_cast<double>(step) / 2};
}

// 0 when this process has no descriptor but the standard streams and `allowed`, and no input.
int look_at_descriptors(int allowed) {
  DIR* folder = opendir("/proc/self/fd");
  int result = 0;
  while (const dirent* entry = readdir(folder)) {
    if (entry->d_name[0] == '.') continue;
    const int fd = std::atoi(entry->d_name);
    if (fd > 2 && fd != allowed && fd != dirfd(folder)) {
      std::fprintf(stderr, "descriptor %d is open in a worker\n", fd);
      result = wrong;
    }
  }
  closedir(folder);
  char byte;
  return read(0, &byte, 1) == 0 ? result : wrong;
}

std::uint64_t signals_of(const std::string& which) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind(which, 0) == 0) return std::stoull(line.substr(which.size()), nullptr, 16);
  }
  return UINT64_MAX;
}

int look_at_signals() {
  constexpr std::uint64_t ours = ~(std::uint64_t{3} << 31);  // 32 and 33 are the C library's own
  const std::uint64_t terminal = 1ULL << (SIGINT - 1) | 1ULL << (SIGHUP - 1);
  return signals_of("SigBlk:") == 0 && (signals_of("SigIgn:") & ours) == terminal ? 0 : wrong;
}

int work(const std::string& role) {
  if (role == "look_at_signals") return look_at_signals();
  if (role == "look_at_descriptors") {
    const char* segment = std::getenv("HEDDLE_SEGMENT_FD");
    return look_at_descriptors(segment != nullptr ? std::atoi(segment) : -1);
  }

  Worker worker = Worker::from_environment();
  if (role == "finish") return worker.report(event_of(worker.rank())) ? 0 : wrong;
  if (role == "tell_core") {
    cpu_set_t cores;
    sched_getaffinity(0, sizeof cores, &cores);
    std::uint64_t core = 0;
    while (!CPU_ISSET(core, &cores)) ++core;
    return CPU_COUNT(&cores) == 1 && worker.report(event_of(core)) ? 0 : wrong;
  }
  if (role == "five_events_and_death") {
    for (std::uint64_t step = 1; step <= 5; ++step) worker.report(event_of(step));
    raise(SIGKILL);
  }
  if (role == "events_for_ever") {
    for (std::uint64_t step = 1; !worker.stop_requested();) {
      if (worker.report(event_of(step))) ++step;
    }
    return 0;
  }
  if (role == "until_stopped" || role == "stubborn") {
    if (role == "stubborn") signal(SIGTERM, SIG_IGN);
    worker.report(event_of(1));
    while (!worker.stop_requested()) std::this_thread::sleep_for(1ms);
    worker.report(event_of(2));
    return 0;
  }
  return wrong;
}

// Before main, which is GoogleTest's.
[[maybe_unused]] const bool is_no_worker = [] {
  const char* role = std::getenv("HEDDLE_TEST_WORKER");
  if (role == nullptr) return true;
  try {
    _exit(work(role));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "worker %s: %s\n", role, error.what());
    _exit(wrong);
  }
}();

// ---- What the tests have in common ----

Segment small_segment() { return Segment::anonymous({1 << 20, 16, 16}); }

Supervisor::Options shell(const std::string& script, std::uint32_t workers = 1) {
  Supervisor::Options options;
  options.command = {"/bin/sh", "-c", script};
  options.workers = workers;
  return options;
}

Supervisor::Options role(const std::string& name, std::uint32_t workers = 1) {
  Supervisor::Options options;
  options.command = {std::filesystem::read_symlink("/proc/self/exe")};
  options.workers = workers;
  options.environment = {{"HEDDLE_TEST_WORKER", name}};
  return options;
}

std::size_t count(const std::vector<Happening>& log, Kind kind) {
  return static_cast<std::size_t>(
      std::count_if(log.begin(), log.end(), [kind](const auto& h) { return h.kind == kind; }));
}

std::vector<Happening> only(const std::vector<Happening>& log, Kind kind) {
  std::vector<Happening> result;
  for (const Happening& h : log) {
    if (h.kind == kind) result.push_back(h);
  }
  return result;
}

// Polls until `enough`, or nothing more can happen. All that has happened is added to `log`.
void poll_until(Supervisor& supervisor, std::vector<Happening>& log,
                const std::function<bool()>& enough) {
  const Deadline end = Deadline::after(patience);
  while (!enough() && supervisor.state() == State::running) {
    const auto seen = supervisor.poll(Deadline::after(1ms));
    log.insert(log.end(), seen.begin(), seen.end());
    if (end.left(monotonic_ns()) <= 0) {
      ADD_FAILURE() << "out of patience after " << testing::PrintToString(log);
      return;
    }
  }
}

std::vector<Happening> poll_to_the_end(Supervisor& supervisor) {
  std::vector<Happening> log;
  poll_until(supervisor, log, [] { return false; });
  return log;
}

// The pid of the one worker of a run, once it has reported its first event.
pid_t await_first_event(Supervisor& supervisor) {
  std::vector<Happening> log;
  WorkerEvent event{};
  poll_until(supervisor, log, [&] { return supervisor.events(0).pop(event); });
  return static_cast<pid_t>(event.epoch);
}

bool has_children() { return waitpid(-1, nullptr, WNOHANG) >= 0 || errno != ECHILD; }

// ---- Starting and ending ----

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
      "test -z \"$HEDDLE_SEGMENT\" && test \"$EXTRA\" = 'a b' && test \"$HOME\" = /nowhere",
      2);
  options.max_restarts = 0;
  options.environment = {{"EXTRA", "a b"}, {"HOME", "/nowhere"}};
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

// ---- The supervisor's own end ----

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
  supervisor.stop();
  WorkerEvent last{};
  ASSERT_TRUE(supervisor.events(0).pop(last)) << "the worker was gone already";
}

// ---- Events ----

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
  constexpr int kills = 50;
  Segment segment = small_segment();
  Supervisor supervisor(segment, role("events_for_ever"));
  std::vector<Happening> log;
  std::map<std::uint32_t, std::uint64_t> last_step;  // by pid
  std::uint64_t goal = 1;
  int killed = 0;
  poll_until(supervisor, log, [&] {
    WorkerEvent event{};
    while (supervisor.events(0).pop(event)) {
      std::uint64_t& last = last_step[event.epoch];
      EXPECT_EQ(event.step, last + 1) << "lost, repeated or out of order";
      EXPECT_EQ(event.samples, event.step * 7) << "torn";
      EXPECT_EQ(event.loss_sum, static_cast<double>(event.step) / 2) << "torn";
      last = event.step;
      if (last == goal && count(log, Kind::died) == static_cast<std::size_t>(killed)) {
        if (killed == kills) return true;
        kill(static_cast<pid_t>(event.epoch), SIGKILL);
        ++killed;
        goal = goal * 7 % 1009 + 1;
      }
    }
    return false;
  });
  EXPECT_EQ(killed, kills);
  EXPECT_EQ(last_step.size(), static_cast<std::size_t>(kills) + 1);
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

// ---- Worker::from_environment ----

std::string refusal(const std::map<std::string, std::string>& environment) {
  for (const char* name : {"HEDDLE_RANK", "HEDDLE_SIZE", "HEDDLE_SEGMENT", "HEDDLE_SEGMENT_FD"}) {
    unsetenv(name);
  }
  for (const auto& [name, value] : environment) setenv(name.c_str(), value.c_str(), 1);
  std::string text = "accepted";
  try {
    Worker::from_environment();
  } catch (const Error& error) {
    text = error.what();
  }
  for (const auto& [name, value] : environment) unsetenv(name.c_str());
  return text;
}

TEST(Worker, says_what_is_wrong_with_its_environment) {
  EXPECT_THAT(refusal({}),
              HasSubstr("HEDDLE_RANK is not set: a worker is started by a supervisor"));
  EXPECT_THAT(refusal({{"HEDDLE_RANK", "1x"}, {"HEDDLE_SIZE", "2"}}),
              HasSubstr("HEDDLE_RANK is \"1x\""));
  EXPECT_THAT(refusal({{"HEDDLE_RANK", "-1"}, {"HEDDLE_SIZE", "2"}}),
              HasSubstr("HEDDLE_RANK is \"-1\""));
  EXPECT_THAT(refusal({{"HEDDLE_RANK", ""}, {"HEDDLE_SIZE", "2"}}),
              HasSubstr("HEDDLE_RANK is \"\""));
  EXPECT_THAT(refusal({{"HEDDLE_RANK", "2"}, {"HEDDLE_SIZE", "2"}}),
              HasSubstr("none of HEDDLE_SIZE 2"));
  EXPECT_THAT(refusal({{"HEDDLE_RANK", "0"}, {"HEDDLE_SIZE", "2"}}),
              HasSubstr("neither HEDDLE_SEGMENT nor HEDDLE_SEGMENT_FD is set"));
  EXPECT_THAT(refusal({{"HEDDLE_RANK", "0"}, {"HEDDLE_SIZE", "2"}, {"HEDDLE_SEGMENT_FD", "999"}}),
              HasSubstr("HEDDLE_SEGMENT_FD 999 cannot be used"));
  EXPECT_THAT(refusal({{"HEDDLE_RANK", "0"}, {"HEDDLE_SIZE", "2"}, {"HEDDLE_SEGMENT", "no.such"}}),
              HasSubstr("no segment \"no.such\""));
}

TEST(Worker, needs_the_events_of_a_supervisor) {
  const Segment segment = small_segment();
  EXPECT_THAT(refusal({{"HEDDLE_RANK", "0"},
                       {"HEDDLE_SIZE", "1"},
                       {"HEDDLE_SEGMENT_FD", std::to_string(segment.fd())}}),
              HasSubstr("no object \"events/0\""));
}

}  // namespace
}  // namespace heddle

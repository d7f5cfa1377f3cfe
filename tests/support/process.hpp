#pragma once

// Real processes for tests: forked, spoken with, stopped, killed, and always reaped.
//
//   Process worker([](Line& test) {
//     Segment segment = Segment::open("x");
//     test.say("joined");
//     test.hear();                            // waits to be killed, or told to go on
//   });
//   ASSERT_EQ(worker.hear(), "joined");
//   worker.kill();                            // its locks and its memory are gone now

#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

namespace heddle::test {

/// How long anything here may take. Far more than it needs: only a failing test meets it.
inline constexpr std::chrono::milliseconds patience = std::chrono::seconds(20);

/// Asks until it is true; false when it still is not at the end of our patience.
template <class Condition>
bool eventually(Condition&& condition) {
  const auto end = std::chrono::steady_clock::now() + patience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    sched_yield();
  }
  return true;
}

/// One end of a line between a test and its child. Messages arrive whole and in order.
class Line {
 public:
  Line() = default;
  explicit Line(int fd) : fd_(fd) {}
  Line(Line&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Line& operator=(Line&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Line() {
    if (fd_ >= 0) close(fd_);
  }

  void say(std::string_view message) { send(fd_, message.data(), message.size(), MSG_NOSIGNAL); }

  /// The next message; "<gone>" when the other end is closed, "<silent>" out of patience.
  std::string hear() {
    pollfd ready{fd_, POLLIN, 0};
    if (poll(&ready, 1, static_cast<int>(patience.count())) <= 0) return "<silent>";
    std::string message(4096, '\0');
    const ssize_t length = recv(fd_, message.data(), message.size(), 0);
    if (length <= 0) return "<gone>";
    message.resize(static_cast<std::size_t>(length));
    return message;
  }

 private:
  int fd_ = -1;
};

/// A child that runs `body` and ends. It never returns into the test. It dies with its parent.
class Process {
 public:
  using Body = std::function<void(Line&)>;

  explicit Process(const Body& body) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) std::abort();
    std::fflush(nullptr);  // or both would print what is buffered now
    const pid_t parent = getpid();
    pid_ = fork();
    if (pid_ < 0) std::abort();
    line_ = Line(ends[pid_ == 0 ? 1 : 0]);
    close(ends[pid_ == 0 ? 0 : 1]);
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (getppid() != parent) _exit(1);
      const int code = run(body);
      std::fflush(nullptr);
      _exit(code);
    }
  }
  Process(Process&& other) noexcept
      : pid_(std::exchange(other.pid_, -1)), line_(std::move(other.line_)), end_(other.end_) {}
  Process& operator=(Process&& other) noexcept {
    std::swap(pid_, other.pid_);
    std::swap(line_, other.line_);
    std::swap(end_, other.end_);
    return *this;
  }
  ~Process() { kill(); }

  pid_t pid() const { return pid_; }
  void say(std::string_view message) { line_.say(message); }
  std::string hear() { return line_.hear(); }

  /// SIGKILL, and waits until the kernel has taken it apart.
  void kill() {
    if (pid_ < 0) return;
    ::kill(pid_, SIGKILL);
    await(0);
  }
  /// SIGSTOP, and waits until it stands.
  void stop() {
    ::kill(pid_, SIGSTOP);
    await(WUNTRACED);
  }
  void resume() { ::kill(pid_, SIGCONT); }
  /// Whether it sleeps in the kernel now.
  bool sleeps() const {
    std::string status;
    std::getline(std::ifstream("/proc/" + std::to_string(pid_) + "/stat"), status);
    return status.find(") S ") != status.npos;
  }

  /// Waits for its end: its exit code (0, or 1 when it threw or failed an expectation), or the
  /// negative number of the signal that it died of. Kills it when we are out of patience.
  int join() {
    if (pid_ < 0) return end_;
    const int fd = static_cast<int>(syscall(SYS_pidfd_open, pid_, 0));
    pollfd ended{fd, POLLIN, 0};
    if (poll(&ended, 1, static_cast<int>(patience.count())) != 1) {
      ADD_FAILURE() << "child " << pid_ << " does not end";
      ::kill(pid_, SIGKILL);
    }
    close(fd);
    await(0);
    return end_;
  }

 private:
  int run(const Body& body) noexcept {
    try {
      const bool failed_before = testing::Test::HasFailure();
      body(line_);
      return !failed_before && testing::Test::HasFailure() ? 1 : 0;
    } catch (const std::exception& error) {
      std::fprintf(stderr, "child %d threw: %s\n", static_cast<int>(getpid()), error.what());
    }
    return 1;
  }

  void await(int options) {
    int status = 0;
    while (waitpid(pid_, &status, options) < 0 && errno == EINTR) {
    }
    if (WIFSTOPPED(status)) return;
    end_ = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    pid_ = -1;
  }

  pid_t pid_ = -1;
  Line line_;
  int end_ = 0;
};

}  // namespace heddle::test

#pragma once

// A process that is taken step by step through a piece of code, so that a test can kill it, or let
// it stand, at any one of them.
//
//   Traced creator([](Line&) {
//     Traced::begin();
//     Segment segment = Segment::create("x", {});
//     Traced::end();
//   });
//   creator.step(Step::system_call, 17);
//   creator.process().kill();

#include <sched.h>
#include <sys/ptrace.h>

#include "support/process.hpp"

namespace heddle::test {

enum class Step { system_call, instruction };

class Traced {
 public:
  /// Returns when `body` has come to begin().
  explicit Traced(const Process::Body& body) : process_(body) { inside_ = await() && is_traced(); }

  /// Whether a process may be traced at all here: a container may forbid it.
  static bool is_allowed() {
    return Traced([](Line&) { begin(); }).inside_;
  }
  static constexpr const char* refusal =
      "NOT RUN: ptrace is refused here (EPERM), so no process was stopped or killed. Allow it: "
      "seccomp profile, or CAP_SYS_PTRACE";

  /// In the child: from here on every step is taken by the test, up to end().
  static void begin() {
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    raise(SIGSTOP);
  }
  static void end() { raise(end_signal); }

  /// Takes `count` steps (a system call has two: its entry and its return). False when the piece
  /// ended before.
  bool step(Step step, int count) {
    for (int i = 0; i < count && inside_; ++i) {
      ptrace(step == Step::system_call ? PTRACE_SYSCALL : PTRACE_SINGLESTEP, process_.pid(), 0, 0);
      int signal = 0;
      inside_ = await(&signal) && signal != end_signal;
    }
    return inside_;
  }

  /// Lets it run on by itself.
  void let_go() { ptrace(PTRACE_DETACH, process_.pid(), 0, 0); }
  /// Lets it stand where it is, as SIGSTOP does. process().resume() lets it run on by itself.
  void stop() {
    ptrace(PTRACE_DETACH, process_.pid(), 0, SIGSTOP);
    siginfo_t info{};
    waitid(P_PID, static_cast<id_t>(process_.pid()), &info, WSTOPPED);
  }

  Process& process() { return process_; }

 private:
  static constexpr int end_signal = SIGURG;  // does nothing to one that was let go

  bool is_traced() {
    return ptrace(PTRACE_SETOPTIONS, process_.pid(), 0,
                  PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL) == 0;
  }
  // True when it stands; false when it has ended, and is left for process_ to reap.
  bool await(int* signal = nullptr) {
    const auto id = static_cast<id_t>(process_.pid());
    siginfo_t info{};
    waitid(P_PID, id, &info, WEXITED | WSTOPPED | WNOWAIT);
    if (info.si_code != CLD_TRAPPED && info.si_code != CLD_STOPPED) return false;
    waitid(P_PID, id, &info, WSTOPPED);
    if (signal != nullptr) *signal = info.si_status & 0x7f;
    return true;
  }

  Process process_;
  bool inside_ = false;
};

/// One core for the test and the children that it forks meanwhile: a step costs 3 us and not 50.
class OneCore {
 public:
  OneCore() {
    sched_getaffinity(0, sizeof before_, &before_);
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<std::size_t>(sched_getcpu()), &one);
    sched_setaffinity(0, sizeof one, &one);
  }
  ~OneCore() { sched_setaffinity(0, sizeof before_, &before_); }
  OneCore(const OneCore&) = delete;
  OneCore& operator=(const OneCore&) = delete;

 private:
  cpu_set_t before_;
};

}  // namespace heddle::test

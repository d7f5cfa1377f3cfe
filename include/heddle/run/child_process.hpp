#pragma once

// ChildProcess: one child of this process, from its fork until it is reaped.

#include <sched.h>
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "heddle/shm/file_descriptor.hpp"

namespace heddle {

/// What a child becomes.
struct Launch {
  std::string program;                   ///< a path
  std::vector<std::string> arguments;    ///< the program's name first
  std::vector<std::string> environment;  ///< NAME=value, all of it
  int inherited_fd = -1;                 ///< the one descriptor it gets beside 0, 1 and 2
  int input = -1;                        ///< its standard input; -1: /dev/null
  int output = -1;                       ///< its standard output; -1: ours
  /// It leads a process group: what a terminal sends does not reach it, and send_all reaches what it
  /// starts.
  bool own_group = false;
  std::optional<cpu_set_t> cores;
};

struct Ending {
  int signal = 0;           ///< that killed it
  int code = 0;             ///< that it exited with
  std::string not_started;  ///< why it never came to run its program; empty when it did
};

/// The path of a program that is named as in a shell. Throws Error{not_found}.
std::string find_program(const std::string& name);

class ChildProcess {
 public:
  /// Forks. Throws Error when that fails; what fails in the child is known when it has ended.
  explicit ChildProcess(const Launch& launch);
  /// Kills it, if it was not reaped.
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  pid_t pid() const noexcept { return pid_; }
  int pidfd() const noexcept { return pidfd_.get(); }  ///< readable when it has ended
  bool has_ended() const noexcept;
  void send(int signal) const noexcept;
  /// To all in its group (own_group), those that it has started.
  void send_all(int signal) const noexcept;
  /// Waits for its end. From then on its pid may be another's.
  Ending reap() noexcept;

 private:
  // In a page that parent and child share until the exec: unlike a pipe it needs no reading in
  // time, and no descriptor that a third process could hold.
  struct Failure {
    const char* step;  // a literal: the same address in both
    int error;
  };

  [[noreturn]] void become(const Launch& launch, char* const* arguments, char* const* environment,
                           pid_t parent) noexcept;

  Failure* failure_;
  std::string program_;
  pid_t parent_;
  pid_t pid_ = -1;
  FileDescriptor pidfd_;
  bool is_reaped_ = false;
};

}  // namespace heddle

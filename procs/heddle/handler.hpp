#pragma once

// A task in the hands of the program that handles it: one process for each try.

#include <signal.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "guardian.hpp"
#include "heddle/run/child_process.hpp"
#include "heddle/sync/task_queue.hpp"

namespace heddle {

/// The payload is its standard input, what it prints is kept in memory; its environment says
/// HEDDLE_TASK_ID and HEDDLE_TASK_TRIES. It ends with the process that started it, and so does what it
/// has started itself.
class Handler {
 public:
  /// Starts the program at this path. `place` is its own with the guardian. Throws Error.
  Handler(Task<bytes> task, const std::string& program, const std::vector<std::string>& arguments,
          Guardian& guardian, std::size_t place);
  ~Handler();
  Handler(const Handler&) = delete;
  Handler& operator=(const Handler&) = delete;

  Task<bytes>& task() { return task_; }
  const ChildProcess& child() const { return *child_; }
  double seconds() const;
  std::size_t printed() const;  ///< bytes so far

  /// All that it has started, too.
  void kill() { child_->send_all(SIGKILL); }
  /// It has ended, and how.
  Ending reap();
  /// What it has printed. After its end.
  std::vector<std::byte> output() const;

 private:
  Task<bytes> task_;
  Guardian& guardian_;
  const std::size_t place_;
  FileDescriptor output_;
  std::unique_ptr<ChildProcess> child_;
  std::int64_t started_;
  bool is_reaped_ = false;
};

}  // namespace heddle

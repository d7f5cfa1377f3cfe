#pragma once

// What "heddle queue work" tells: what the handlers print goes to standard output, whole when each has
// ended; what happens to standard error, as lines, and on a terminal as one line that is drawn again.
// For programs all of it is one JSON object a line, on standard output.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "heddle/sync/task_queue.hpp"
#include "status_line.hpp"
#include "streams.hpp"

namespace heddle {

class WorkReport {
 public:
  WorkReport(bool json, StopSignals& signals) : json_(json), output_("-", signals) {}

  void waiting(const std::string& queue);
  void started(const Task<bytes>& task, int pid);
  /// `output` went nowhere else.
  void done(TaskId id, std::uint64_t tries, double seconds, std::span<const std::byte> output);
  /// `again`: seconds after which it is tried again; negative: it is a dead letter.
  void failed(TaskId id, std::uint64_t tries, const std::string& reason, double again,
              std::span<const std::byte> output);
  void lost(TaskId id, std::uint64_t tries);
  /// Whether progress is to be told now; what it is, is dear to find out.
  bool is_due() const;
  void progress(std::size_t running, const QueueStats& stats);
  void end();
  /// Nothing more is drawn.
  void clear() { status_.clear(); }

  std::uint64_t dead() const { return dead_; }

 private:
  void print(std::span<const std::byte> output);
  double rate();

  const bool json_;
  Output output_;
  StatusLine status_;
  std::uint64_t done_ = 0;
  std::uint64_t failed_ = 0;
  std::uint64_t dead_ = 0;
  const std::int64_t began_ = monotonic_ns();
  std::int64_t next_line_ = began_ + 1'000'000'000;
  // of the rate
  std::int64_t since_ = began_;
  std::uint64_t done_then_ = 0;
  double rate_ = 0;
};

}  // namespace heddle

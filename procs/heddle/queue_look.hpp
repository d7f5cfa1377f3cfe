#pragma once

// The commands that look into a queue as observers, and leave no trace: stats, result, dead's list.

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "open_queue.hpp"

namespace heddle {

struct QueueStatsOptions {
  std::string queue;  // SEGMENT/QUEUE
  bool watch = false;
  bool json = false;
};
struct QueueResultOptions {
  std::string queue;
  std::uint64_t id = 0;
  double wait = 0;
  bool json = false;
};

/// Add "stats" and "result" to the commands of "queue"; their options land in `options`.
void add_queue_stats(CLI::App& queue, QueueStatsOptions& options);
void add_queue_result(CLI::App& queue, QueueResultOptions& options);

/// Return the exit code: 0 done, 1 no result (in time), 128 + the signal that ended it. Throw Error.
int queue_stats(const QueueStatsOptions& options);
int queue_result(const QueueResultOptions& options);

/// A queue that is looked at.
struct ObservedQueue {
  Observer observer;
  OpenQueue queue;
};
/// Throws what throw_no_queue does.
ObservedQueue observe_queue(const QueueAddress& address);

}  // namespace heddle

#pragma once

// The commands that change what becomes of a queue's tasks: dead, close, reopen. Of any type of tasks.

#include <CLI/CLI.hpp>
#include <string>

namespace heddle {

struct QueueDeadOptions {
  std::string queue;  // SEGMENT/QUEUE
  std::string retry;  // an id, or "all"; neither this nor the next: they are listed
  std::string drop;
  bool json = false;
};
struct QueueCloseOptions {
  std::string queue;
};

/// Add "dead", "close" and "reopen" to the commands of "queue"; their options land in `options`.
void add_queue_dead(CLI::App& queue, QueueDeadOptions& options);
void add_queue_close(CLI::App& queue, QueueCloseOptions& options);
void add_queue_reopen(CLI::App& queue, QueueCloseOptions& options);

/// Return the exit code: 0 done, 1 there was no such dead letter. Throw Error.
int queue_dead(const QueueDeadOptions& options);
int queue_close(const QueueCloseOptions& options);
int queue_reopen(const QueueCloseOptions& options);

}  // namespace heddle

#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

namespace heddle {

struct QueuePopOptions {
  std::string queue;  // SEGMENT/QUEUE
  std::uint64_t count = 1;
  double wait = 0;
  bool bytes = false;
  bool json = false;
};

/// Adds "pop" to the commands of "queue"; its options land in `options`.
void add_queue_pop(CLI::App& queue, QueuePopOptions& options);

/// Prints tasks, each of which is done when it is printed. Returns the exit code: 0 there was one at
/// least, 1 none (in time), 128 + the signal that ended it. Throws Error.
int queue_pop(const QueuePopOptions& options);

}  // namespace heddle

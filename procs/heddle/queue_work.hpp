#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace heddle {

struct QueueWorkOptions {
  std::string queue;                     // SEGMENT/QUEUE
  std::vector<std::string> handler;      // a program and its arguments
  std::optional<std::uint32_t> workers;  // none: the number of cores
  double backoff = 1;                    // seconds before the second try
  bool once = false;
  bool json = false;
};

/// Adds "work" to the commands of "queue"; its options land in `options`.
void add_queue_work(CLI::App& queue, QueueWorkOptions& options);

/// Runs a handler for each task. Returns the exit code: 0 all done, 1 some became dead letters, 128 +
/// the signal that ended it. Throws Error.
int queue_work(const QueueWorkOptions& options);

}  // namespace heddle

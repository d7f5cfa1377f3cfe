#pragma once

#include <CLI/CLI.hpp>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace heddle {

struct QueuePushOptions {
  std::string queue;               // SEGMENT/QUEUE
  std::vector<std::string> files;  // each a task; none: the lines of standard input
  std::uint32_t lane = 0;
  double delay = 0;
  bool close = false;
  bool json = false;
  bool hold = false;  // neither: if it is the first in the segment, until all is done
  bool no_hold = false;
  // of a new queue; where there is one, it must have what is asked for
  std::optional<std::uint32_t> capacity;
  std::optional<std::uint32_t> max_tries;
  std::optional<double> lease_timeout;
  std::optional<std::uint32_t> lanes;
  std::optional<std::uint32_t> payload;
  std::optional<std::uint32_t> results;
  std::size_t room = std::size_t{1} << 20;
};

/// Adds "push" to the commands of "queue"; its options land in `options`.
void add_queue_push(CLI::App& queue, QueuePushOptions& options);

/// Pushes. Returns the exit code: 0 done, 1 it waited for all to be done and there are dead letters,
/// 128 + the signal that ended it. Throws Error; what stood before bad input is pushed then.
int queue_push(const QueuePushOptions& options);

}  // namespace heddle

#pragma once

#include <CLI/CLI.hpp>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace heddle {

struct PubOptions {
  std::string slot;                // SEGMENT/SLOT
  std::vector<std::string> files;  // none: standard input
  std::string type;                // empty: the slot's; of a new one f64, or bytes
  std::optional<std::uint64_t> count;
  std::uint32_t views = 8;
  std::uint32_t publishers = 4;
  std::uint32_t buffers = 0;  // views + publishers + 1
  std::size_t room = std::size_t{1} << 20;
  std::optional<double> rate;
  bool hold = false;  // neither: if it is the first in the segment
  bool no_hold = false;
  bool bytes = false;
  bool npy = false;
};

/// Adds "pub" to the program's commands; its options land in `options`.
CLI::App* add_pub_command(CLI::App& app, PubOptions& options);

/// Publishes. Returns the exit code: 0 done, 128 + the signal that ended it. Throws Error; what
/// stood before bad input is published then, and nothing of it.
int pub_command(const PubOptions& options);

}  // namespace heddle

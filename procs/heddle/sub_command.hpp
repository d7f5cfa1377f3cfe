#pragma once

// The commands that read a slot: sub follows it, pull looks once.

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>

namespace heddle {

/// Of pull; and of sub, which has more.
struct PullOptions {
  std::string slot;
  std::string npy;
  bool bytes = false;
  bool json = false;
};
struct SubOptions : PullOptions {
  std::optional<std::uint64_t> count;
  std::optional<double> timeout;
  bool end_on_death = false;
};

/// Add "sub" and "pull" to the program's commands; their options land in `options`.
CLI::App* add_sub_command(CLI::App& app, SubOptions& options);
CLI::App* add_pull_command(CLI::App& app, PullOptions& options);

/// Return the exit code: 0 done, 1 nothing to read (in time), 3 the publisher died (when asked to end
/// then), 128 + the signal that ended it. Throw Error.
int sub_command(const SubOptions& options);
int pull_command(const PullOptions& options);

}  // namespace heddle

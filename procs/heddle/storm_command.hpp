#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>

namespace heddle {

struct StormOptions {
  double seconds = 60;
  std::optional<std::uint64_t> seed;  // none: drawn, and printed
  bool json = false;
  std::string lies;  // "queue", "group": somebody there does wrong, and the storm must see it
};

/// Adds "storm" to the program's commands; its options land in `options`.
CLI::App* add_storm_command(CLI::App& app, StormOptions& options);

/// Returns the exit code: 0 the promise held, 1 it did not, 128 + the signal that ended it. Throws Error.
int storm_command(const StormOptions& options);

}  // namespace heddle

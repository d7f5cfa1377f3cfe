#pragma once

// "heddle bench": measures what runs here, on this machine. The project's own benchmarks, beside what others
// use instead, are ./dev bench.

#include <CLI/CLI.hpp>

#include "bench_collective.hpp"

namespace heddle {

struct BenchOptions {
  BenchCollectiveOptions collective;
};

/// Adds "bench" to the program's commands; its options land in `options`.
CLI::App* add_bench_command(CLI::App& app, BenchOptions& options);

/// Runs the one that was parsed. Returns its exit code. Throws Error.
int bench_command(const CLI::App& bench, const BenchOptions& options);

}  // namespace heddle

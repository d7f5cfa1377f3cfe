#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>

#include "collective_plan.hpp"

namespace heddle {

struct BenchCollectiveOptions {
  std::optional<std::uint32_t> ranks;
  std::string op = "allreduce";
  std::optional<std::string> type;
  std::optional<std::string> reduction;
  std::optional<std::string> memory;
  std::optional<std::uint64_t> min_bytes;
  std::optional<std::uint64_t> max_bytes;
  std::optional<std::uint64_t> iterations;
  std::uint64_t exchange_bytes = std::uint64_t{1} << 20;
  bool json = false;
};

/// Adds "collective" to the commands of "bench"; its options land in `options`.
void add_bench_collective(CLI::App& bench, BenchCollectiveOptions& options);

/// What the options ask for. Throws Error, which says what to change.
CollectivePlan plan_from(const BenchCollectiveOptions& options);

}  // namespace heddle

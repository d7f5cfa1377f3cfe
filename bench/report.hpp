#pragma once

// What a run says in the end: one row for each contender and group of core distance, as a table
// for people and as JSON for programs.

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "harness.hpp"

namespace heddle::bench {

struct Tail {
  double p99;
  double p999;
  double max;
};

struct Row {
  Label label;
  std::string group;        ///< "near" or "far"
  bool nearest = true;      ///< its group is the nearest of the run: the case has no suffix
  double ping_pong_ns = 0;  ///< of the group; 0 when one process works alone
  double median = 0;
  double mad = 0;
  std::size_t runs = 0;
  std::optional<Tail> tail;        ///< of latencies, over all samples of the group
  std::optional<OverRanks> ranks;  ///< medians over the samples

  std::string case_name() const { return nearest ? label.name : label.name + "/far"; }
};

struct Report {
  std::vector<Row> rows;
  std::vector<std::string> notes;  ///< distances, samples that were dropped
};

Report report(const std::vector<Measured>& measured);

std::string table(const Report& report);
/// Of collectives alone: one table for each operation, number of ranks and implementation.
std::string collective_tables(const Report& report);
nlohmann::ordered_json to_json(const std::vector<Row>& rows);

}  // namespace heddle::bench

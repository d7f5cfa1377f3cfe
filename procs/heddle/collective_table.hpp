#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "collective_plan.hpp"
#include "collective_rank.hpp"
#include "streams.hpp"

namespace heddle {

/// A row, when each rank has told of it.
struct MeasuredRow {
  CollectiveRow row{};
  double min_ns = 0;  ///< of the ranks' medians
  double avg_ns = 0;
  double max_ns = 0;
  std::uint64_t calls = 0;
  std::uint64_t compared = 0;  ///< elements, by all ranks
};

/// Prints what is measured: a table for people, or JSON objects, one a line.
class CollectiveTable {
 public:
  CollectiveTable(const CollectivePlan& plan, bool json, Output& output)
      : plan_(plan), json_(json), output_(output) {}

  void begin();
  void joined(const RankReport& rank);
  void row(const MeasuredRow& measured);
  void end(double seconds);

 private:
  std::string title() const;

  const CollectivePlan& plan_;
  const bool json_;
  Output& output_;
  std::string line_;  // of a size whose other memory is still measured
  std::size_t rows_ = 0;
  std::uint64_t compared_ = 0;
};

/// "64 KiB", or "100 B".
std::string readable_size(std::size_t bytes);

}  // namespace heddle

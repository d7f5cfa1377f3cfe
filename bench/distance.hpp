#pragma once

// Groups of samples by the distance of the cores at their time. Virtual cores are at times near
// (60-100 ns round trip) and at times far (330 ns), changing within a run: figures of the one and
// the other must not be mixed.

#include <cstddef>
#include <optional>
#include <vector>

#include "harness.hpp"

namespace heddle::bench {

/// The distances of a run, in one group or two.
class DistanceGroups {
 public:
  struct Group {
    const char* name;     ///< "near" or "far"
    bool nearest;         ///< of those in this run
    double ping_pong_ns;  ///< median round trip
  };

  explicit DistanceGroups(const std::vector<Measured>& measured);

  /// The nearest first; empty when only teams of one process were measured.
  const std::vector<Group>& groups() const { return groups_; }

  /// Nothing for a sample that straddles: the cores moved apart or together while it ran.
  std::optional<std::size_t> group_of(const Distance& distance) const;

 private:
  std::optional<std::size_t> group_of(double round_trip_ns) const;

  std::vector<Group> groups_;
  double threshold_;   // between the lower and the upper round trips
  bool lower_ = true;  // whether each of the two is a group, or but a few strays
  bool upper_ = true;
};

}  // namespace heddle::bench

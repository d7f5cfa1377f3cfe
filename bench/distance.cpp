#include "distance.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "statistics.hpp"

namespace heddle::bench {
namespace {

constexpr double far_ns = 200;       // round trips above this are called far
constexpr double clear_gap = 1.6;    // two groups' medians are at least this factor apart
constexpr double stray_part = 0.05;  // fewer samples than this part of all are no group
constexpr double ceiling_ns = 1500;  // beyond: somebody else had the core; how long says nothing

/// Where sorted values fall apart best into two: Otsu's method, on logarithms. 0: nowhere.
std::size_t best_cut(const std::vector<double>& sorted) {
  std::vector<double> sums{0};
  for (const double value : sorted) {
    sums.push_back(sums.back() + std::log(std::min(value, ceiling_ns)));
  }
  std::size_t best = 0;
  double best_spread = 0;
  for (std::size_t i = 1; i < sorted.size(); ++i) {
    const auto below = static_cast<double>(i);
    const auto above = static_cast<double>(sorted.size() - i);
    const double apart = (sums.back() - sums[i]) / above - sums[i] / below;
    if (const double spread = below * above * apart * apart; spread > best_spread) {
      best = i;
      best_spread = spread;
    }
  }
  return best;
}

const char* name_of(double round_trip_ns) { return round_trip_ns > far_ns ? "far" : "near"; }

}  // namespace

DistanceGroups::DistanceGroups(const std::vector<Measured>& measured)
    : threshold_(std::numeric_limits<double>::infinity()) {
  std::vector<double> times;
  for (const Measured& contender : measured) {
    if (contender.processes < 2) continue;
    for (const Taken& taken : contender.samples) {
      times.push_back(taken.distance.before_ns);
      times.push_back(taken.distance.after_ns);
    }
  }
  if (times.empty()) return;
  std::sort(times.begin(), times.end());

  const std::size_t cut = best_cut(times);
  const auto middle = times.begin() + static_cast<std::ptrdiff_t>(cut);
  const std::vector<double> lower(times.begin(), middle);
  const std::vector<double> upper(middle, times.end());
  if (cut == 0 || median(upper) < far_ns || median(upper) < clear_gap * median(lower)) {
    groups_.push_back({name_of(median(times)), true, median(times)});
    return;
  }

  threshold_ = std::sqrt(lower.back() * upper.front());
  const double strays = stray_part * static_cast<double>(times.size());
  lower_ = static_cast<double>(lower.size()) >= strays;
  upper_ = static_cast<double>(upper.size()) >= strays;
  if (lower_) groups_.push_back({upper_ ? "near" : name_of(median(lower)), true, median(lower)});
  if (upper_) groups_.push_back({"far", !lower_, median(upper)});
}

std::optional<std::size_t> DistanceGroups::group_of(double round_trip_ns) const {
  const bool up = round_trip_ns > threshold_;
  if (!(up ? upper_ : lower_)) return std::nullopt;
  return up && lower_ ? 1 : 0;
}

std::optional<std::size_t> DistanceGroups::group_of(const Distance& distance) const {
  const std::optional<std::size_t> before = group_of(distance.before_ns);
  return before == group_of(distance.after_ns) ? before : std::nullopt;
}

}  // namespace heddle::bench

#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

namespace heddle::bench {

inline double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

/// Median of the absolute deviations from the median: the spread that no outlier can stretch.
inline double median_deviation(std::vector<double> values) {
  const double middle = median(values);
  for (double& value : values) value = std::abs(value - middle);
  return median(std::move(values));
}

}  // namespace heddle::bench

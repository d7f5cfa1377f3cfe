#pragma once

#include "bench_collective.hpp"
#include "collective_plan.hpp"

namespace heddle {

/// What the options ask for. Throws Error, which says what to change.
CollectivePlan plan_from(const BenchCollectiveOptions& options);

}  // namespace heddle

#pragma once

#include "collective_options.hpp"

namespace heddle {

/// Returns the exit code: 0, or 128 + the signal that ended it. Throws Error, also when a rank has died or
/// has found a wrong result.
int bench_collective(const BenchCollectiveOptions& options);

}  // namespace heddle

#pragma once

// All that can be measured. A suite is one file beside this one; it lists its own cases, and asks
// peers/ for the other implementations of them.

#include <vector>

#include "harness.hpp"

namespace heddle::bench {

std::vector<Entry> slot_suite();
std::vector<Entry> copy_suite();
std::vector<Entry> task_queue_suite();
std::vector<Entry> barrier_suite();
std::vector<Entry> collective_suite();
std::vector<Entry> uncontended_suite();

}  // namespace heddle::bench

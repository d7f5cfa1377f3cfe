#include <fmt/format.h>

#include "peers/boost_lockfree.hpp"
#include "queue_contender.hpp"
#include "suites.hpp"

namespace heddle::bench {
namespace {

template <std::size_t pairs>
void add_push_pop(std::vector<Entry>& entries) {
  Label label{"task_queue", fmt::format("task_queue/push_pop/{0}p{0}c/64B", pairs), "",
              "throughput", "tasks/s"};
  label.impl = "boost_lockfree";
  entries.push_back({label, [] { return std::make_unique<QueueContender<BoostQueue, pairs>>(); }});
}

}  // namespace

std::vector<Entry> task_queue_suite() {
  std::vector<Entry> entries;
  add_push_pop<1>(entries);
  add_push_pop<2>(entries);
  add_push_pop<4>(entries);
  return entries;
}

}  // namespace heddle::bench

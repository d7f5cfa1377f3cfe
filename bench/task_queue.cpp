#include <fmt/format.h>

#include "case.hpp"
#include "heddle_queue.hpp"
#include "peers/boost_lockfree.hpp"
#include "queue_contender.hpp"
#include "suites.hpp"

namespace heddle::bench {
namespace {

constexpr Quantity tasks{"throughput", "tasks/s"};

template <std::size_t pairs>
void add_push_pop(std::vector<Entry>& entries) {
  Case here(entries, "task_queue", fmt::format("task_queue/push_pop/{0}p{0}c/64B", pairs), tasks);
  here.add<QueueContender<HeddleQueue, pairs>>("heddle");
  here.add<QueueContender<BoostQueue, pairs>>("boost_lockfree");
  here.compare_with("boost_lockfree");
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

#include <fmt/format.h>

#include "heddle_queue.hpp"
#include "peers/boost_lockfree.hpp"
#include "queue_contender.hpp"
#include "suites.hpp"

namespace heddle::bench {
namespace {

template <class Queue, std::size_t pairs>
std::unique_ptr<Contender> contender() {
  return std::make_unique<QueueContender<Queue, pairs>>();
}

template <std::size_t pairs>
void add_push_pop(std::vector<Entry>& entries) {
  Label label{"task_queue", fmt::format("task_queue/push_pop/{0}p{0}c/64B", pairs), "heddle",
              "throughput", "tasks/s"};
  label.against_case = label.name;
  label.against_impl = "boost_lockfree";
  entries.push_back({label, contender<HeddleQueue, pairs>});
  label.impl = "boost_lockfree";
  label.against_impl = "";
  entries.push_back({label, contender<BoostQueue, pairs>});
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

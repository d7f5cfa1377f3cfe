#include <fmt/format.h>

#include "case.hpp"
#include "heddle_queue.hpp"
#include "long_leases.hpp"
#include "peers/boost_lockfree.hpp"
#include "peers/boost_message_queue.hpp"
#include "peers/pipe_queue.hpp"
#include "queue_contender.hpp"
#include "suites.hpp"

#if HEDDLE_BENCH_PEERS
#include "peers/redis.hpp"
#endif

namespace heddle::bench {
namespace {

constexpr Quantity tasks{"throughput", "tasks/s"};

template <std::size_t pairs>
void add_push_pop(std::vector<Entry>& entries) {
  Case here(entries, "task_queue", fmt::format("task_queue/push_pop/{0}p{0}c/64B", pairs), tasks);
  here.add<QueueContender<HeddleQueue, pairs>>("heddle");
  here.add<QueueContender<BoostQueue, pairs>>("boost_lockfree");
  if constexpr (pairs == 1) {
    here.add<QueueContender<BoostSpscQueue, pairs>>("boost_lockfree_spsc").peer = true;
  }
  here.add<QueueContender<BoostMessageQueue<Waiting::spins>, pairs>>("boost_message_queue").peer =
      true;
  here.add<QueueContender<PipeQueue, pairs>>("pipe").peer = true;
#if HEDDLE_BENCH_PEERS
  here.add<QueueContender<RedisQueue<Waiting::spins>, pairs>>("redis").peer = true;
#endif
  here.compare_with("boost_lockfree");
  // Up to four pairs also say what becomes of processes that share cores. Eight shall show what
  // more cores bring.
  if (pairs > 4) here.needs_processors(2 * pairs);
}

void add_leased(std::vector<Entry>& entries) {
  struct Part {
    const char* name;
    std::size_t every;
  };
  for (const auto& [part, every] : {Part{"quarter", 4}, Part{"half", 2}}) {
    Case here(entries, "task_queue", fmt::format("task_queue/leased/{}", part), tasks);
    here.add<LongLeases>("heddle", every);
    here.add<QueueContender<BoostQueue, 1>>("boost_lockfree");
    here.compare_with("boost_lockfree");
  }
}

}  // namespace

std::vector<Entry> task_queue_suite() {
  std::vector<Entry> entries;
  add_push_pop<1>(entries);
  add_push_pop<2>(entries);
  add_push_pop<4>(entries);
  add_push_pop<8>(entries);
  add_leased(entries);
  return entries;
}

}  // namespace heddle::bench

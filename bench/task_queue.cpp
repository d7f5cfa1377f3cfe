#include <fmt/format.h>

#include "case.hpp"
#include "heddle_queue.hpp"
#include "long_leases.hpp"
#include "one_way.hpp"
#include "peers/boost_lockfree.hpp"
#include "peers/boost_message_queue.hpp"
#include "peers/pipe_queue.hpp"
#include "peers/stream.hpp"
#include "queue_channel.hpp"
#include "queue_contender.hpp"
#include "queue_death.hpp"
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
  here.add<QueueContender<HeddleQueueBatches, pairs>>("heddle_x16");
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

void add_latency(std::vector<Entry>& entries) {
  constexpr std::size_t bytes = sizeof(Payload);

  Case spinning(entries, "task_queue", "task_queue/latency/spinning/64B", latency);
  spinning.add<OneWay<HeddleQueueChannel<Waiting::spins>>>("heddle", bytes);
  spinning.add<OneWay<QueueChannel<BoostQueue>>>("boost_lockfree", bytes);
  spinning
      .add<OneWay<QueueChannel<BoostMessageQueue<Waiting::spins>>>>("boost_message_queue", bytes)
      .peer = true;
  spinning.add<OneWay<Pipe>>("pipe", bytes).peer = true;
  spinning.compare_with("boost_lockfree");

  Case sleeping(entries, "task_queue", "task_queue/latency/sleeping/64B", latency);
  sleeping.add<OneWay<HeddleQueueChannel<Waiting::sleeps>>>("heddle", bytes, to_fall_asleep);
  sleeping.add<OneWay<PipeAsleep>>("pipe", bytes, to_fall_asleep);
  sleeping
      .add<OneWay<QueueChannel<BoostMessageQueue<Waiting::sleeps>>>>("boost_message_queue", bytes,
                                                                     to_fall_asleep)
      .peer = true;
#if HEDDLE_BENCH_PEERS
  sleeping.add<OneWay<QueueChannel<RedisQueue<Waiting::sleeps>>>>("redis", bytes, to_fall_asleep)
      .peer = true;
#endif
  sleeping.compare_with("pipe");
}

void add_death(std::vector<Entry>& entries) {
  struct Size {
    const char* name;
    std::uint32_t slots;
  };
  for (const auto& [size, slots] :
       {Size{"1k", 1U << 10U}, Size{"64k", 1U << 16U}, Size{"1M", 1U << 20U}}) {
    Case(entries, "task_queue", fmt::format("task_queue/recovery/{}", size), latency)
        .add<QueueRecovery>("heddle", slots);
  }
  Case handover(entries, "task_queue", "task_queue/handover", latency);
  handover.add<QueueHandover<Holder>>("heddle");
  handover.add<QueueHandover<SupervisedHolder>>("heddle_supervised");
  handover.compare_with("heddle");
}

}  // namespace

std::vector<Entry> task_queue_suite() {
  std::vector<Entry> entries;
  add_push_pop<1>(entries);
  add_push_pop<2>(entries);
  add_push_pop<4>(entries);
  add_push_pop<8>(entries);
  add_leased(entries);
  add_latency(entries);
  add_death(entries);
  return entries;
}

}  // namespace heddle::bench

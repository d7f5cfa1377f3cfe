#include <fmt/format.h>

#include "case.hpp"
#include "core_to_core.hpp"
#include "heddle_slot.hpp"
#include "one_way.hpp"
#include "peers/boost_mutex.hpp"
#include "peers/stream.hpp"
#include "slot_load.hpp"
#include "suites.hpp"

#if HEDDLE_BENCH_PEERS
#include "peers/iceoryx.hpp"
#endif

namespace heddle::bench {
namespace {

constexpr std::size_t kib = 1024;
constexpr std::size_t mib = kib * kib;

constexpr Quantity publications{"throughput", "publications/s"};

void add_one_way(std::vector<Entry>& entries) {
  Case(entries, "slot", "slot/core_to_core", latency)
      .add<OneWay<CoreToCore>>("hardware", CoreToCore::values * 8);

  struct Size {
    const char* name;
    std::size_t bytes;
    int every = 1;
  };
  for (const auto& [size, bytes, every] :
       {Size{"64B", 64}, Size{"4KiB", 4 * kib}, Size{"64KiB", 64 * kib}, Size{"1MiB", mib},
        Size{"64MiB", 64 * mib, 10}}) {
    const std::string name = fmt::format("slot/one_way/{}", size);
    Case here(entries, "slot", name, latency, every);
    Entry& copied = here.add<OneWay<HeddleSlot>>("heddle", bytes);
    compare(copied, name, "iceoryx");
    if (bytes == 64) {
      compare(copied, "slot/core_to_core", "hardware");
      compare(here.add<OneWay<HeddleSlotTimed>>("heddle_timed", bytes), name, "heddle");
    }
    compare(here.add<OneWay<HeddleSlotByView>>("heddle_view", bytes), name, "iceoryx");
#if HEDDLE_BENCH_PEERS
    here.add<OneWay<Iceoryx>>("iceoryx", bytes).peer = true;
#endif
    here.add<OneWay<BoostMutex>>("boost_mutex", bytes).peer = true;
    here.add<OneWay<Pipe>>("pipe", bytes).peer = true;
    here.add<OneWay<UnixSocket>>("unix_socket", bytes).peer = true;
  }
}

void add_wake(std::vector<Entry>& entries) {
  Case here(entries, "slot", "slot/wake/64B", latency);
  here.add<OneWay<HeddleSlotAsleep>>("heddle", 64, to_fall_asleep);
  here.add<OneWay<PipeAsleep>>("pipe", 64, to_fall_asleep);
#if HEDDLE_BENCH_PEERS
  here.add<OneWay<IceoryxAsleep>>("iceoryx", 64, to_fall_asleep).peer = true;
#endif
  here.compare_with("pipe");
}

void add_load(std::vector<Entry>& entries) {
  for (const int readers : {1, 2, 4, 8}) {
    Case(entries, "slot", fmt::format("slot/readers/{}", readers), publications)
        .add<SlotReaders>("heddle", readers);
  }
  Case here(entries, "slot", "slot/stopped_reader", publications);
  here.add<SlotStoppedReader<true>>("heddle");
  here.add<SlotStoppedReader<false>>("heddle_alone");
  here.compare_with("heddle_alone");
}

}  // namespace

std::vector<Entry> slot_suite() {
  std::vector<Entry> entries;
  add_one_way(entries);
  add_wake(entries);
  add_load(entries);
  return entries;
}

}  // namespace heddle::bench

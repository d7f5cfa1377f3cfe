#include <fmt/format.h>

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
constexpr std::chrono::microseconds to_fall_asleep{100};

/// Entries of one case, in the order in which they are added.
class Case {
 public:
  Case(std::vector<Entry>& entries, std::string name, int every = 1)
      : entries_(entries), name_(std::move(name)), every_(every) {}

  template <class Channel>
  Entry& latency(const char* impl, std::size_t bytes, std::chrono::nanoseconds rest = {}) {
    return add(impl, "latency", "ns",
               [=] { return std::make_unique<OneWay<Channel>>(bytes, rest); });
  }
  template <class Load, class... Arguments>
  Entry& publications(const char* impl, Arguments... arguments) {
    return add(impl, "throughput", "publications/s",
               [=] { return std::make_unique<Load>(arguments...); });
  }

 private:
  Entry& add(const char* impl, const char* metric, const char* unit,
             std::function<std::unique_ptr<Contender>()> make) {
    entries_.push_back({{"slot", name_, impl, metric, unit}, std::move(make)});
    entries_.back().every = every_;
    return entries_.back();
  }

  std::vector<Entry>& entries_;
  std::string name_;
  int every_;
};

void compare(Entry& entry, const std::string& name, const char* impl) {
  entry.label.against_case = name;
  entry.label.against_impl = impl;
}

void add_one_way(std::vector<Entry>& entries) {
  Case(entries, "slot/core_to_core").latency<CoreToCore>("hardware", CoreToCore::values * 8);

  struct Size {
    const char* name;
    std::size_t bytes;
    int every = 1;
  };
  for (const auto& [size, bytes, every] :
       {Size{"64B", 64}, Size{"4KiB", 4 * kib}, Size{"64KiB", 64 * kib}, Size{"1MiB", mib},
        Size{"64MiB", 64 * mib, 10}}) {
    const std::string name = fmt::format("slot/one_way/{}", size);
    Case here(entries, name, every);
    Entry& copied = here.latency<HeddleSlot>("heddle", bytes);
    compare(copied, name, "iceoryx");
    if (bytes == 64) {
      compare(copied, "slot/core_to_core", "hardware");
      compare(here.latency<HeddleSlotTimed>("heddle_timed", bytes), name, "heddle");
    }
    compare(here.latency<HeddleSlotByView>("heddle_view", bytes), name, "iceoryx");
#if HEDDLE_BENCH_PEERS
    here.latency<Iceoryx>("iceoryx", bytes).peer = true;
#endif
    here.latency<BoostMutex>("boost_mutex", bytes).peer = true;
    here.latency<Pipe>("pipe", bytes).peer = true;
    here.latency<UnixSocket>("unix_socket", bytes).peer = true;
  }
}

void add_wake(std::vector<Entry>& entries) {
  const std::string name = "slot/wake/64B";
  Case here(entries, name);
  compare(here.latency<HeddleSlotAsleep>("heddle", 64, to_fall_asleep), name, "pipe");
  here.latency<PipeAsleep>("pipe", 64, to_fall_asleep);
#if HEDDLE_BENCH_PEERS
  here.latency<IceoryxAsleep>("iceoryx", 64, to_fall_asleep).peer = true;
#endif
}

void add_load(std::vector<Entry>& entries) {
  for (const int readers : {1, 2, 4, 8}) {
    Case(entries, fmt::format("slot/readers/{}", readers))
        .publications<SlotReaders>("heddle", readers);
  }
  const std::string name = "slot/stopped_reader";
  Case here(entries, name);
  compare(here.publications<SlotStoppedReader<true>>("heddle"), name, "heddle_alone");
  here.publications<SlotStoppedReader<false>>("heddle_alone");
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

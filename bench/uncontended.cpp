// Single operations of one process that has the object for itself: what a mechanism costs when
// nobody competes. This is what Google Benchmark is made for: it finds the number of iterations
// and times them. A sample is one run of it, so that here too the implementations take turns.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "case.hpp"
#include "heddle/sync/barrier.hpp"
#include "heddle_queue.hpp"
#include "heddle_slot.hpp"
#include "peers/boost_lockfree.hpp"
#include "plain_ring.hpp"
#include "queue_contender.hpp"
#include "suites.hpp"

#if HEDDLE_BENCH_PEERS
#include "peers/moodycamel.hpp"
#endif

namespace heddle::bench {
namespace {

/// Keeps the figure of a run instead of printing it.
class Capture final : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context& /*context*/) override { return true; }
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      if (run.error_occurred) error = run.error_message;
      ns_per_iteration = run.GetAdjustedCPUTime();  // others may want the core, too
    }
  }
  double ns_per_iteration = 0;
  std::string error;
};

/// Measures `loop` on an object that all samples share.
template <class Object>
class Uncontended final : public Contender {
 public:
  using Loop = void (*)(benchmark::State&, Object&);

  template <class... Arguments>
  explicit Uncontended(Loop loop, Arguments... arguments) : loop_(loop), object_(arguments...) {}

  int processes() const override { return 1; }

  void work(Member& member) override {
    member.start();
    Capture capture;
    const std::chrono::duration<double> length = member.length();
    benchmark::RegisterBenchmark("operation", [this](benchmark::State& state) {
      loop_(state, object_);
    })->MinTime(length.count());
    benchmark::RunSpecifiedBenchmarks(&capture, ".");
    if (!capture.error.empty()) member.fail(capture.error);
    *ns_ = capture.ns_per_iteration;
    member.stop();
  }

  Sample result() override { return {*ns_, {}}; }

 private:
  Loop loop_;
  Object object_;
  Shared<double> ns_;
};

template <class Queue>
void push_pop(benchmark::State& state, Queue& shared) {
  typename Queue::Handle queue(shared);
  std::uint64_t task = 0;
  const auto use = [&](const Payload& payload) {
    if (!payload.intact() || payload.task() != task)
      state.SkipWithError("a payload came out damaged");
  };
  for (auto _ : state) {
    if (!queue.push(Payload(++task)) || !queue.take(use)) {
      state.SkipWithError("a task was not taken or did not come out");
      break;
    }
  }
}

template <class Slot>
void publish_pull(benchmark::State& state, Slot& shared) {
  typename Slot::Writer writer(shared);
  typename Slot::Reader reader(shared);
  std::array<std::uint64_t, 8> value{};
  for (auto _ : state) {
    for (std::uint64_t& word : value) ++word;
    writer.publish(value);
    if (!reader.poll() || !std::ranges::equal(reader.value(), value)) {
      state.SkipWithError("another value came out than was published");
      break;
    }
  }
}

struct OneParty {
  Segment segment = Segment::anonymous({.bytes = std::size_t{1} << 16U});
};

void arrive(benchmark::State& state, OneParty& shared) {
  Segment segment = Segment::adopt(shared.segment.fd());
  auto barrier = segment.open<Barrier>("barrier", {.parties = 1});
  Barrier::Party party = barrier.join();
  for (auto _ : state) {
    if (party.arrive_and_wait().status != Status::ready) {
      state.SkipWithError("the barrier did not open");
      break;
    }
  }
}

}  // namespace

std::vector<Entry> uncontended_suite() {
  std::vector<Entry> entries;
  constexpr Quantity time{"time", "ns"};

  Case tasks(entries, "uncontended", "uncontended/push_pop/64B", time);
  tasks.add<Uncontended<HeddleQueue>>("heddle", push_pop<HeddleQueue>);
  tasks.add<Uncontended<BoostQueue>>("boost_lockfree", push_pop<BoostQueue>);
  tasks.add<Uncontended<PlainRing>>("plain_ring", push_pop<PlainRing>);
#if HEDDLE_BENCH_PEERS
  tasks.add<Uncontended<MoodycamelQueue>>("moodycamel", push_pop<MoodycamelQueue>).peer = true;
#endif
  tasks.compare_with("boost_lockfree");

  constexpr std::size_t bytes = 64;
  Case values(entries, "uncontended", "uncontended/publish_pull/64B", time);
  values.add<Uncontended<HeddleSlot>>("heddle", publish_pull<HeddleSlot>, bytes);
  values.add<Uncontended<HeddleSlotTimed>>("heddle_timed", publish_pull<HeddleSlotTimed>, bytes);

  Case(entries, "uncontended", "uncontended/barrier/1", time)
      .add<Uncontended<OneParty>>("heddle", arrive);
  return entries;
}

}  // namespace heddle::bench

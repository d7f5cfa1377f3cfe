// Single operations of one process that has the object for itself: what a mechanism costs when
// nobody competes. This is what Google Benchmark is made for: it finds the number of iterations
// and times them. A sample is one run of it, so that here too the implementations take turns.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <functional>
#include <memory>
#include <string>

#include "heddle/sync/barrier.hpp"
#include "heddle_queue.hpp"
#include "heddle_slot.hpp"
#include "peers/boost_lockfree.hpp"
#include "queue_contender.hpp"
#include "suites.hpp"

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

class Uncontended final : public Contender {
 public:
  explicit Uncontended(std::function<void(benchmark::State&)> loop) : loop_(std::move(loop)) {}

  int processes() const override { return 1; }

  void work(Member& member) override {
    member.start();
    Capture capture;
    const std::chrono::duration<double> length = member.length();
    benchmark::RegisterBenchmark("operation", loop_)->MinTime(length.count());
    benchmark::RunSpecifiedBenchmarks(&capture, ".");
    if (!capture.error.empty()) member.fail(capture.error);
    *ns_ = capture.ns_per_iteration;
    member.stop();
  }

  Sample result() override { return {*ns_, {}}; }

 private:
  std::function<void(benchmark::State&)> loop_;
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

/// `loop` measures one operation on the Shared that every sample of this contender gets.
template <class Shared, class... Arguments>
Entry entry(const char* operation, const char* impl, void (*loop)(benchmark::State&, Shared&),
            Arguments... arguments) {
  Label label{"uncontended", std::string("uncontended/") + operation, impl, "time", "ns"};
  return {label, [=] {
            auto shared = std::make_shared<Shared>(arguments...);
            return std::make_unique<Uncontended>(
                [=](benchmark::State& state) { loop(state, *shared); });
          }};
}

}  // namespace

std::vector<Entry> uncontended_suite() {
  std::vector<Entry> entries{
      entry<HeddleQueue>("push_pop/64B", "heddle", push_pop),
      entry<BoostQueue>("push_pop/64B", "boost_lockfree", push_pop),
      entry<HeddleSlot>("publish_pull/64B", "heddle", publish_pull, std::size_t{64}),
      entry<HeddleSlotTimed>("publish_pull/64B", "heddle_timed", publish_pull, std::size_t{64}),
      entry<OneParty>("barrier/1", "heddle", arrive),
  };
  entries[0].label.against_case = entries[1].label.name;
  entries[0].label.against_impl = entries[1].label.impl;
  return entries;
}

}  // namespace heddle::bench

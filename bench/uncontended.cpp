// Single operations of one process that has the object for itself: what a mechanism costs when
// nobody competes. This is what Google Benchmark is made for: it finds the number of iterations
// and times them. A sample is one run of it, so that here too the implementations take turns.

#include <benchmark/benchmark.h>

#include <functional>
#include <string>

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
      ns_per_iteration = run.GetAdjustedRealTime();
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
    benchmark::RegisterBenchmark("operation", loop_)->MinTime(length.count())->UseRealTime();
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

template <class Queue>
Entry queue_entry(const char* impl) {
  Label label{"uncontended", "uncontended/push_pop/64B", impl, "time", "ns"};
  return {label, [] {
            auto queue = std::make_shared<Queue>();
            return std::make_unique<Uncontended>(
                [queue](benchmark::State& state) { push_pop(state, *queue); });
          }};
}

}  // namespace

std::vector<Entry> uncontended_suite() {
  std::vector<Entry> entries;
  entries.push_back(queue_entry<BoostQueue>("boost_lockfree"));
  return entries;
}

}  // namespace heddle::bench

#include "harness.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "distance.hpp"

namespace heddle::bench {
namespace {

/// One line on a terminal that shows where the run is; nothing elsewhere.
class Progress {
 public:
  Progress() : terminal_(isatty(STDERR_FILENO) == 1) {}
  ~Progress() { show(""); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void show(const std::string& line) const {
    if (terminal_) fmt::print(stderr, "\r\x1b[K{}", line);
  }

 private:
  bool terminal_;
};

/// Neighbours of one case, as [begin, end) pairs.
std::vector<std::pair<std::size_t, std::size_t>> cases_of(const std::vector<Entry>& entries) {
  std::vector<std::pair<std::size_t, std::size_t>> cases;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    if (i > 0 && entries[i].label.name == entries[i - 1].label.name) {
      cases.back().second = i + 1;
    } else {
      cases.emplace_back(i, i + 1);
    }
  }
  return cases;
}

}  // namespace

std::vector<Measured> measure(const std::vector<Entry>& entries, const Plan& plan) {
  calibrate_ticks();
  std::vector<std::unique_ptr<Contender>> contenders;
  std::vector<Measured> results;
  for (const Entry& entry : entries) {
    contenders.push_back(entry.make());
    results.push_back({entry.label, contenders.back()->processes(), {}});
  }

  const Progress progress;
  const auto start = std::chrono::steady_clock::now();
  const auto sample = [&](int round, std::size_t i) {
    const Label& label = entries[i].label;
    progress.show(fmt::format("round {} of {}: {} {}", round + 1, std::max(plan.runs, round + 1),
                              label.name, label.impl));
    try {
      contenders[i]->prepare();
      const Distance distance = run_team(contenders[i]->processes(), plan.sample,
                                         [&](Member& member) { contenders[i]->work(member); });
      results[i].samples.push_back({contenders[i]->result(), distance});
    } catch (const std::exception& failure) {
      throw Failure(fmt::format("{} {}: {}", label.name, label.impl, failure.what()));
    }
  };
  for (int round = 0; round < plan.runs; ++round) {
    if (round > 0 && std::chrono::steady_clock::now() - start > plan.time) break;
    for (const auto& [begin, end] : cases_of(entries)) {
      if (round % entries[begin].every != 0) continue;
      for (std::size_t i = begin; i < end; ++i) {
        sample(round, round % 2 == 0 ? i : begin + end - 1 - i);
      }
    }
  }
  // A short run may have met the cores only while they moved.
  constexpr int more_tries = 5;
  for (int more = 0; more < more_tries; ++more) {
    const DistanceGroups groups(results);
    for (std::size_t i = 0; i < results.size(); ++i) {
      const auto kept = [&](const Taken& taken) {
        return groups.group_of(taken.distance).has_value();
      };
      if (std::ranges::none_of(results[i].samples, kept)) sample(plan.runs + more, i);
    }
  }
  return results;
}

}  // namespace heddle::bench

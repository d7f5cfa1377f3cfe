#pragma once

// Cases, contenders, samples: how the implementations of a case take turns.
//
// A run is a number of rounds. In a round every contender of every case measures one sample of
// some milliseconds, those of one case next to each other and in the other order in the next
// round. So whatever drifts on the machine (the host's load, the distance of the virtual cores)
// meets them all alike, and the medians of a case can be compared.

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "histogram.hpp"
#include "team.hpp"

namespace heddle::bench {

/// What was measured beside the contender's own figure: a row of its own.
struct Figure {
  std::string metric;
  std::string unit;
  double value = 0;
};

/// The medians of the ranks of a collective.
struct OverRanks {
  double avg = 0;
  double min = 0;
  double max = 0;
};

/// What a contender measured in one sample.
struct Sample {
  double value = 0;                    ///< in the contender's unit
  std::optional<Histogram> durations;  ///< in ticks: only of latencies
  std::vector<Figure> beside{};        ///< the same ones, in the same order, in each sample
  std::optional<OverRanks> ranks{};    ///< in nanoseconds
};

/// One implementation of one case, with the shared memory that it needs. It lives in the
/// benchmark's own process; work() runs in the forked ones.
class Contender {
 public:
  virtual ~Contender() = default;
  virtual int processes() const = 0;
  virtual void prepare() {}  ///< before the processes are forked
  virtual void work(Member& member) = 0;
  virtual Sample result() = 0;  ///< verifies; throws Failure for lost, torn or double values
};

/// What is said of a contender in lists and results.
struct Label {
  std::string suite;
  std::string name;  ///< of the case: mechanism/operation/shape/size
  std::string impl;
  std::string metric;
  std::string unit;
  std::string against_case{};  ///< whose median the table divides by; empty: none
  std::string against_impl{};
};

struct Entry {
  Label label;
  std::function<std::unique_ptr<Contender>()> make;
  bool peer = false;           ///< measured only when asked for
  int every = 1;               ///< round in which it measures a sample: a long one takes fewer
  std::size_t processors = 1;  ///< left out on a machine with fewer
  std::string missing{};       ///< of a peer: why it cannot be measured here
};

struct Plan {
  int runs = 50;                           ///< samples of each contender
  std::chrono::duration<double> time{50};  ///< no new round after that
  std::chrono::nanoseconds sample = std::chrono::milliseconds(25);
};

struct Taken {
  Sample sample;
  Distance distance;
};

struct Measured {
  Label label;
  int processes = 0;
  std::vector<Taken> samples;
};

std::vector<Measured> measure(const std::vector<Entry>& entries, const Plan& plan);

}  // namespace heddle::bench

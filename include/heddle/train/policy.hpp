#pragma once

// Policy: how workers keep step while they train. What all policies share stands here; bsp.hpp and
// asp.hpp are the two ways.
//
// In the segment: "plan", "control", "losses" (one for each epoch) and "weights", a Slot of parameters in
// which version e is the parameters at the end of epoch e. Whoever wants consistent weights while
// training goes on (the evaluator, an inference process) pulls them there.

#include <algorithm>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "heddle/shm/segment.hpp"
#include "heddle/shm/shared_buffer.hpp"
#include "heddle/sync/slot.hpp"
#include "heddle/train/dataset.hpp"
#include "heddle/train/model.hpp"
#include "heddle/train/plan.hpp"

namespace heddle {

/// What the main process tells the workers of a run that has a target accuracy.
struct TrainControl {
  Atomic<std::uint64_t> judged_epoch;  ///< the evaluator has seen the weights of this epoch
  Atomic<std::uint64_t> last_epoch;    ///< training ends after it
  Event judged;
};

/// The order of the samples in the epoch that is asked for, made anew when the epoch changes.
class EpochOrder {
 public:
  EpochOrder(std::uint64_t seed, std::uint32_t samples) : seed_(seed), order_(samples) {}
  /// Samples `first` to `first + count` of the epoch, fewer at its end.
  std::span<const std::uint32_t> slice(std::uint64_t epoch, std::size_t first, std::size_t count);

 private:
  std::uint64_t seed_;
  std::uint64_t epoch_ = UINT64_MAX;
  std::vector<std::uint32_t> order_;
};

/// What a worker is to its policy.
struct WorkerContext {
  std::function<bool()> stop_requested;  ///< asked between two pieces of work
  /// Told after each: samples, the sum of their losses.
  std::function<void(std::uint64_t samples, double loss)> did;
};

class Policy {
 public:
  virtual ~Policy() = default;

  // In a worker.
  /// Works until the run is over (true) or the worker is asked to stop (false).
  virtual bool work(const Dataset& data, WorkerContext& context) = 0;

  // In the main process.
  /// Hands out what there is room for. Called again and again; must not block.
  virtual void feed() {}
  /// Epochs of which everything is done.
  virtual std::uint64_t epochs_done() const = 0;
  /// The parameters at the end of a run whose workers have all finished: the weights of the last
  /// epoch, which its evaluation has judged. False: that epoch has not been published.
  bool final_parameters(std::span<float> out) const {
    return weights_.pull(out).version == last_epoch();
  }

  /// Mean training loss in the epoch (1 is the first), once it is done.
  double loss_of(std::uint64_t epoch) const { return losses_[epoch - 1]; }
  /// Training ends after this epoch.
  std::uint64_t last_epoch() const {
    return std::min<std::uint64_t>(control().last_epoch.load(acquire("TRAIN.last")), plan_.epochs);
  }
  /// The evaluator has seen `epoch`; `enough` ends the run there.
  void judge(std::uint64_t epoch, bool enough);

  const TrainPlan& plan() const noexcept { return plan_; }
  const Mlp& model() const noexcept { return model_; }
  Slot<float[]>& weights() noexcept { return weights_; }

 protected:
  friend std::unique_ptr<Policy> make_run(Segment& segment, const TrainPlan& plan);

  /// Opens the run's objects, all sized by the plan: those that are there must be of that size.
  Policy(Segment& segment, const TrainPlan& plan);
  /// In the main process, before there are workers: the state that a run begins with.
  virtual void begin() = 0;

  /// In a worker: waits until the evaluator has judged `epoch`, if the run has a target.
  void await_judgement(std::uint64_t epoch, const WorkerContext& context);
  TrainControl& control() const { return *reinterpret_cast<TrainControl*>(&control_[0]); }

  TrainPlan plan_;
  Mlp model_;
  SharedBuffer<std::uint64_t> control_;
  SharedBuffer<double> losses_;
  Slot<float[]> weights_;
};

/// Bytes that a segment needs for a run of this plan.
std::size_t segment_bytes(const TrainPlan& plan);
/// Makes the run's objects in a new segment, with initial parameters.
std::unique_ptr<Policy> make_run(Segment& segment, const TrainPlan& plan);
/// Finds them in the segment of a run, with the plan that stands there.
std::unique_ptr<Policy> join_run(Segment& segment);

}  // namespace heddle

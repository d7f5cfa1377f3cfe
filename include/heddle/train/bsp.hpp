#pragma once

// Bsp: synchronous training with the same bits for any number of workers, whoever dies.
//
// A step's batch is cut into a fixed number of microbatches; each has a gradient buffer of its own
// and is claimed on a board by whoever is free. When all are done, stripes of the next parameters
// are claimed on a second board: the gradients are added in the order of the microbatches and the
// optimizer goes from the parameters of one parity to those of the other. So what a step reads is
// never written in that step; a piece that its worker left half-done by dying is done again from
// the same inputs, and every bit depends on the plan alone.
//
// State           gradient board: round s+1 is step s; one item more than there are microbatches:
//                 the publication of the parameters that the step begins with, at an epoch's end
//                 update board: round s+1 done is step s done: the truth about where the run is
// Invariants      BSP-1  parameters of parity s are not written while any item of step s is open
//                 BSP-2  the weights' version e is published once, with the parameters of epoch e
// On death        the boards reopen the items of the dead; nothing else is owned

#include "heddle/sync/board.hpp"
#include "heddle/train/optimizer.hpp"
#include "heddle/train/policy.hpp"

namespace heddle {

class Bsp final : public Policy {
 public:
  static std::size_t segment_bytes(const TrainPlan& plan, std::size_t parameters);
  Bsp(Segment& segment, const TrainPlan& plan);

  bool work(const Dataset& data, WorkerContext& context) override;
  std::uint64_t epochs_done() const override;

 private:
  struct Scratch;
  void begin() override { model_.initialise(plan_.seed, parameters(0)); }
  std::span<float> parameters(std::uint64_t step) const;
  std::span<float> state(std::uint64_t step) const;
  std::span<float> gradient(std::uint32_t microbatch) const;
  double& loss_sum(std::uint64_t step) const { return loss_sums_[plan_.microbatches + step % 2]; }
  bool is_over(std::uint64_t step) const;
  void compute_gradient(std::uint64_t step, std::uint32_t microbatch, const Dataset& data,
                        Scratch& scratch, WorkerContext& context);
  void publish(std::uint64_t step, Slot<float[]>::Publisher& publisher,
               const WorkerContext& context);
  void update_stripe(std::uint64_t step, std::uint32_t stripe, Scratch& scratch);

  Sgd optimizer_;
  std::uint32_t stripes_;
  SharedBuffer<float> parameters_;  // two parities
  SharedBuffer<float> state_;       // two parities; one idle float when the optimizer has none
  SharedBuffer<float> gradients_;   // one for each microbatch
  SharedBuffer<double> loss_sums_;  // of each microbatch, then of the epoch so far, two parities
  Board gradient_board_;
  Board update_board_;
};

}  // namespace heddle

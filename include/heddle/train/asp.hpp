#pragma once

// Asp: asynchronous training. The shards of an epoch are tasks in a queue; a worker leases one,
// trains on it batch by batch, and updates the shared parameters in place without a lock.
//
// State           parameters: floats, two in a word, read and written relaxed: updates may get
//                 lost between two workers, which stochastic gradient descent forgives
//                 shard words: one for each shard of each epoch, 0 until done, then its loss
//                 publication board: round e is the publication of the weights of epoch e
// Invariants      ASP-1  a shard is marked done before its task is completed: when the queue is
//                        closed and drained, every shard of every epoch is done
//                 ASP-2  the weights' version e is published once, when epochs 1 to e are done
// On death        the task goes back to the queue: its shard is trained again, on top of what the
//                 dead worker's batches had already changed (at least once)
// Source          Recht, Re, Wright, Niu 2011, "Hogwild!"

#include "heddle/base/copy.hpp"
#include "heddle/sync/board.hpp"
#include "heddle/sync/task_queue.hpp"
#include "heddle/train/policy.hpp"

namespace heddle {

class Asp final : public Policy {
 public:
  static std::size_t segment_bytes(const TrainPlan& plan, std::size_t parameters);
  Asp(Segment& segment, const TrainPlan& plan);

  bool work(const Dataset& data, WorkerContext& context) override;
  void feed() override;
  std::uint64_t epochs_done() const override { return publications_.rounds_done(); }

 private:
  friend struct LayoutOf;  // pins it: tests/unit/shm/layout_test.cpp
  struct Shard {
    std::uint32_t epoch;  // 0 is the first
    std::uint32_t index;
  };
  struct Scratch;
  void begin() override { model_.initialise(plan_.seed, parameters_.span()); }
  SharedWord* shared_parameters() const {
    return reinterpret_cast<SharedWord*>(parameters_.span().data());
  }
  SharedWord& shard_word(std::uint64_t epoch, std::uint32_t index) const {
    return reinterpret_cast<SharedWord*>(
        shard_words_.span().data())[epoch * plan_.shards_per_epoch() + index];
  }
  double train(const Shard& shard, const Dataset& data, Scratch& scratch);
  bool is_done(std::uint64_t epoch, double& loss) const;
  /// False: asked to stop before it was through.
  bool publish_finished(Slot<float[]>::Publisher& publisher, Scratch& scratch,
                        const WorkerContext& context);

  SharedBuffer<float> parameters_;
  SharedBuffer<std::uint64_t> shard_words_;
  TaskQueue<Shard> queue_;
  Board publications_;
  Shard next_{0, 0};  // to be pushed, in the main process
};

}  // namespace heddle

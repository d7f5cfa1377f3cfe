#include "heddle/train/asp.hpp"

#include <array>
#include <bit>

namespace heddle {
namespace {

// Well above what workers take between two feedings.
constexpr std::uint32_t queue_capacity = 4096;

// A shard's loss with a bit that says done: the last of the fraction.
constexpr std::uint64_t done_bit = 1;

}  // namespace

struct Asp::Scratch {
  Scratch(const TrainPlan& plan, const Mlp& model)
      : workspace(model.make_workspace(plan.batch)),
        parameters(model.parameter_count()),
        gradient(model.parameter_count()),
        order(plan.seed, plan.samples) {}
  Mlp::Workspace workspace;
  AlignedFloats parameters;
  AlignedFloats gradient;
  EpochOrder order;
};

std::size_t Asp::segment_bytes(const TrainPlan& plan, std::size_t parameters) {
  return parameters * sizeof(float) +
         std::size_t{plan.epochs} * plan.shards_per_epoch() * sizeof(std::uint64_t) +
         TaskQueue<Shard>::bytes({queue_capacity}) + Board::bytes({1}) + 4 * page_bytes;
}

Asp::Asp(Segment& segment, const TrainPlan& plan)
    : Policy(segment, plan),
      parameters_(segment.open<SharedBuffer<float>>("asp.parameters", {model_.parameter_count()})),
      shard_words_(segment.open<SharedBuffer<std::uint64_t>>(
          "asp.shards", {std::size_t{plan.epochs} * plan.shards_per_epoch()})),
      queue_(segment.open<TaskQueue<Shard>>("asp.queue", {queue_capacity})),
      publications_(segment.open<Board>("asp.publications", {1})) {}

void Asp::feed() {
  if (queue_.is_closed()) return;
  while (next_.epoch < last_epoch()) {
    if (queue_.try_push(next_) != Status::ready) return;
    if (++next_.index == plan_.shards_per_epoch()) next_ = {next_.epoch + 1, 0};
  }
  (void)queue_.close();
}

bool Asp::work(const Dataset& data, WorkerContext& context) {
  Scratch scratch(plan_, model_);
  auto publisher = weights_.publisher();
  while (!context.stop_requested()) {
    Task<Shard> task = queue_.pop(Deadline::after(std::chrono::milliseconds(100)));
    if (task.status() == Status::timeout) continue;
    if (task.status() == Status::closed) return true;
    if (!task) return false;
    const Shard shard = task.payload();
    // Some are left over when a target was reached. (The index: what stands there may be damaged.)
    if (shard.epoch < last_epoch() && shard.index < plan_.shards_per_epoch()) {
      if (shard_word(shard.epoch, shard.index).load(relaxed) == 0) {  // else it came back late
        const double loss = train(shard, data, scratch);
        const auto samples = scratch.order.slice(
            shard.epoch, std::size_t{shard.index} * TrainPlan::batches_per_shard * plan_.batch,
            std::size_t{TrainPlan::batches_per_shard} * plan_.batch);
        context.did(samples.size(), loss);
        shard_word(shard.epoch, shard.index)
            .store(std::bit_cast<std::uint64_t>(loss) | done_bit,
                   release("ASP.done"));  // -> is_done; ASP-1: before complete()
      }
      fence(seq_cst("ASP.marked"));  // the mark, then the board; pairs with BOARD.finished
      // Asked to stop in the middle: the task goes back, and whoever takes it publishes.
      if (!publish_finished(publisher, scratch, context)) return false;
    }
    (void)task.complete();
  }
  return false;
}

// Batch by batch: reads the shared parameters, and subtracts from them as they are by then.
double Asp::train(const Shard& shard, const Dataset& data, Scratch& scratch) {
  double loss = 0;
  for (std::uint32_t b = 0; b < TrainPlan::batches_per_shard; ++b) {
    const std::size_t batch = std::size_t{shard.index} * TrainPlan::batches_per_shard + b;
    const auto samples = scratch.order.slice(shard.epoch, batch * plan_.batch, plan_.batch);
    if (samples.empty()) break;
    copy_out(scratch.parameters.data(), shared_parameters(),
             scratch.parameters.size() * sizeof(float));
    loss += model_.loss_and_gradient(scratch.parameters, data, samples, scratch.gradient,
                                     scratch.workspace);
    const float rate = plan_.learning_rate / static_cast<float>(samples.size());
    SharedWord* shared = shared_parameters();
    for (std::size_t i = 0; i < scratch.gradient.size(); i += 2) {
      SharedWord& word = shared[i / 2];
      auto pair = std::bit_cast<std::array<float, 2>>(word.load(relaxed));
      pair[0] -= rate * scratch.gradient[i];
      pair[1] -= rate * scratch.gradient[i + 1];
      word.store(std::bit_cast<std::uint64_t>(pair), relaxed);  // Hogwild: another's may get lost
    }
  }
  return loss;
}

bool Asp::is_done(std::uint64_t epoch, double& loss) const {
  loss = 0;
  for (std::uint32_t i = 0; i < plan_.shards_per_epoch(); ++i) {
    const std::uint64_t word = shard_word(epoch, i).load(acquire("ASP.done"));  // <- work
    if (word == 0) return false;
    loss += std::bit_cast<double>(word);
  }
  return true;
}

// Publishes the weights of every epoch that is done and not yet published, in order. ASP-2: the
// board's item is claimed by one at a time. Who finds another at it leaves: that other looks again
// after each epoch, and one of the two sees the other (ASP.marked). Its own task is not completed
// until it is through, so if it dies the task goes to somebody else, who comes here again.
bool Asp::publish_finished(Slot<float[]>::Publisher& publisher, Scratch& scratch,
                           const WorkerContext& context) {
  for (;;) {
    const std::uint64_t epoch = publications_.rounds_done();  // counted from 0, the one to publish
    double loss = 0;
    if (epoch >= last_epoch() || !is_done(epoch, loss)) return true;
    std::uint32_t item = 0;
    const Status status = publications_.take(epoch + 1, item, Deadline::now());
    if (status == Status::empty) continue;  // published since we looked
    if (status != Status::ready) return true;
    if (weights_.version() < epoch + 1) {  // else a worker has died here after publishing
      losses_[epoch] = loss / plan_.samples;
      copy_out(scratch.parameters.data(), shared_parameters(),
               scratch.parameters.size() * sizeof(float));
      while (publisher.publish(scratch.parameters) == Status::busy && !context.stop_requested()) {
        yield();
      }
    }
    await_judgement(epoch + 1, context);
    if (context.stop_requested()) return false;
    publications_.finish(item);
  }
}

}  // namespace heddle

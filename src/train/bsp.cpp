#include "heddle/train/bsp.hpp"

#include <algorithm>

namespace heddle {
namespace {

constexpr std::uint32_t most_stripes = 16;  // enough for the workers, few beside a step's work

std::uint32_t stripes_of(std::size_t parameters) {
  return static_cast<std::uint32_t>(
      std::clamp<std::size_t>(parameters / aligned_floats, 1, most_stripes));
}

// A board's worker looks up at least this often whether it shall stop.
Deadline look_up() { return Deadline::after(std::chrono::milliseconds(100)); }

}  // namespace

struct Bsp::Scratch {
  Scratch(const TrainPlan& plan, const Mlp& model)
      : workspace(model.make_workspace((plan.batch + plan.microbatches - 1) / plan.microbatches)),
        sum(model.parameter_count()),
        order(plan.seed, plan.samples) {}
  Mlp::Workspace workspace;
  AlignedFloats sum;
  EpochOrder order;
};

std::size_t Bsp::segment_bytes(const TrainPlan& plan, std::size_t parameters) {
  return (4 + plan.microbatches) * parameters * sizeof(float) +
         Board::bytes({plan.microbatches + 1}) + Board::bytes({stripes_of(parameters)}) +
         (plan.microbatches + 2) * sizeof(double) + 6 * page_bytes;
}

Bsp::Bsp(Segment& segment, const TrainPlan& plan)
    : Policy(segment, plan),
      optimizer_(plan.learning_rate, plan.momentum),
      stripes_(stripes_of(model_.parameter_count())),
      parameters_(
          segment.open<SharedBuffer<float>>("bsp.parameters", {2 * model_.parameter_count()})),
      state_(segment.open<SharedBuffer<float>>(
          "bsp.state",
          {std::max<std::size_t>(2 * optimizer_.state_count(model_.parameter_count()), 1)})),
      gradients_(segment.open<SharedBuffer<float>>("bsp.gradients",
                                                   {plan.microbatches * model_.parameter_count()})),
      loss_sums_(segment.open<SharedBuffer<double>>("bsp.loss_sums",
                                                    {std::size_t{plan.microbatches} + 2})),
      gradient_board_(segment.open<Board>("bsp.gradient_board", {plan.microbatches + 1})),
      update_board_(segment.open<Board>("bsp.update_board", {stripes_})) {}

std::span<float> Bsp::parameters(std::uint64_t step) const {
  const std::size_t count = model_.parameter_count();
  return parameters_.span().subspan(step % 2 * count, count);
}

std::span<float> Bsp::state(std::uint64_t step) const {
  const std::size_t count = optimizer_.state_count(model_.parameter_count());
  return state_.span().subspan(step % 2 * count, count);
}

std::span<float> Bsp::gradient(std::uint32_t microbatch) const {
  const std::size_t count = model_.parameter_count();
  return gradients_.span().subspan(microbatch * count, count);
}

// Once it is true for a step it stays so, and no worker updates in that step: the target's verdict
// is waited for in the gradient round, before any worker comes to ask.
bool Bsp::is_over(std::uint64_t step) const {
  return step >= last_epoch() * plan_.steps_per_epoch();
}

bool Bsp::work(const Dataset& data, WorkerContext& context) {
  Scratch scratch(plan_, model_);
  auto publisher = weights_.publisher();
  for (std::uint64_t step = update_board_.rounds_done();; ++step) {
    const Round round = step + 1;
    // The last gradient round only publishes.
    for (;;) {
      std::uint32_t item = 0;
      const Status status = gradient_board_.take(round, item, look_up());
      if (status == Status::empty) break;
      if (context.stop_requested()) return false;  // an item that was taken goes back on leaving
      if (status == Status::timeout) continue;
      if (status != Status::ready) return false;
      if (item == plan_.microbatches) {
        publish(step, publisher, context);
        if (context.stop_requested()) return false;
      } else if (step < plan_.steps()) {
        compute_gradient(step, item, data, scratch, context);
      }
      gradient_board_.finish(item);
    }
    if (is_over(step)) return true;
    for (;;) {
      std::uint32_t item = 0;
      const Status status = update_board_.take(round, item, look_up());
      if (status == Status::empty) break;
      if (context.stop_requested()) return false;
      if (status == Status::timeout) continue;
      if (status != Status::ready) return false;
      update_stripe(step, item, scratch);
      update_board_.finish(item);
    }
  }
}

void Bsp::compute_gradient(std::uint64_t step, std::uint32_t microbatch, const Dataset& data,
                           Scratch& scratch, WorkerContext& context) {
  const std::uint64_t epoch = step / plan_.steps_per_epoch();
  const std::size_t first = step % plan_.steps_per_epoch() * plan_.batch;
  const auto batch = scratch.order.slice(epoch, first, plan_.batch);
  // Cut evenly: piece m is [m n / M, (m+1) n / M).
  const std::size_t begin = microbatch * batch.size() / plan_.microbatches;
  const std::size_t end = (microbatch + 1) * batch.size() / plan_.microbatches;
  const double loss =
      model_.loss_and_gradient(parameters(step), data, batch.subspan(begin, end - begin),
                               gradient(microbatch), scratch.workspace);
  loss_sums_[microbatch] = loss;
  context.did(end - begin, loss);
}

void Bsp::publish(std::uint64_t step, Slot<float[]>::Publisher& publisher,
                  const WorkerContext& context) {
  if (step == 0 || step % plan_.steps_per_epoch() != 0) return;
  const std::uint64_t epoch = step / plan_.steps_per_epoch();
  // A worker that died here may have published before. BSP-2: this item's claims exclude each other.
  if (weights_.version() < epoch) {
    while (publisher.publish(parameters(step)) == Status::busy && !context.stop_requested())
      yield();
  }
  await_judgement(epoch, context);
}

void Bsp::update_stripe(std::uint64_t step, std::uint32_t stripe, Scratch& scratch) {
  const std::size_t count = model_.parameter_count();
  const std::size_t lines = count / aligned_floats;
  const std::size_t begin = stripe * lines / stripes_ * aligned_floats;
  const std::size_t end = (stripe + 1) * lines / stripes_ * aligned_floats;
  const auto cut = [&](std::span<float> whole) { return whole.subspan(begin, end - begin); };

  const std::span<float> sum = std::span(scratch.sum).first(end - begin);
  std::copy_n(gradient(0).begin() + static_cast<std::ptrdiff_t>(begin), sum.size(), sum.begin());
  for (std::uint32_t m = 1; m < plan_.microbatches; ++m) {  // in this order, whoever computed them
    const std::span<float> part = cut(gradient(m));
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += part[i];
  }
  const std::uint64_t in_epoch = step % plan_.steps_per_epoch();
  const std::size_t samples =
      std::min<std::size_t>(plan_.batch, plan_.samples - in_epoch * plan_.batch);
  const bool has_state = optimizer_.state_count(count) != 0;
  optimizer_.update(cut(parameters(step)), sum, has_state ? cut(state(step)) : std::span<float>(),
                    cut(parameters(step + 1)),  // BSP-1: the other parity
                    has_state ? cut(state(step + 1)) : std::span<float>(),
                    1.0F / static_cast<float>(samples));

  if (stripe != 0) return;
  double loss = in_epoch == 0 ? 0 : loss_sum(step);
  for (std::uint32_t m = 0; m < plan_.microbatches; ++m) loss += loss_sums_[m];
  loss_sum(step + 1) = loss;
  if (in_epoch + 1 == plan_.steps_per_epoch()) {
    losses_[step / plan_.steps_per_epoch()] = loss / plan_.samples;
  }
}

std::uint64_t Bsp::epochs_done() const {
  return update_board_.rounds_done() / plan_.steps_per_epoch();
}

}  // namespace heddle

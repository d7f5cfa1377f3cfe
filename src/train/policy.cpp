#include "heddle/train/policy.hpp"

#include <algorithm>
#include <string>

#include "heddle/base/wait.hpp"
#include "heddle/train/asp.hpp"
#include "heddle/train/bsp.hpp"

namespace heddle {
namespace {

constexpr const char* plan_name = "plan";

// Views for the evaluator and a few others who look on. Every worker registers as a publisher for its
// lifetime, and may while its predecessor's place is not yet free; one at a time publishes.
Slot<float[]>::Options weights_options(const TrainPlan& plan, std::size_t parameters) {
  return {.count = parameters, .views = 4, .publishers = 2 * plan.workers, .buffers = 8};
}

std::unique_ptr<Policy> open_run(Segment& segment, const TrainPlan& plan) {
  check(plan);
  if (plan.sync == Sync::bsp) return std::make_unique<Bsp>(segment, plan);
  return std::make_unique<Asp>(segment, plan);
}

}  // namespace

std::span<const std::uint32_t> EpochOrder::slice(std::uint64_t epoch, std::size_t first,
                                                 std::size_t count) {
  if (epoch != epoch_) {
    permutation(seed_, epoch, order_);
    epoch_ = epoch;
  }
  const std::size_t begin = std::min(first, order_.size());
  return std::span(order_).subspan(begin, std::min(count, order_.size() - begin));
}

Policy::Policy(Segment& segment, const TrainPlan& plan)
    : plan_(plan),
      model_(parse_model(plan.model, plan.features, plan.classes)),
      control_(
          segment.open<SharedBuffer<std::uint64_t>>("control", {(sizeof(TrainControl) + 7) / 8})),
      losses_(segment.open<SharedBuffer<double>>("losses", {plan.epochs})),
      weights_(segment.open<Slot<float[]>>("weights",
                                           weights_options(plan, model_.parameter_count()))) {}

void Policy::judge(std::uint64_t epoch, bool enough) {
  if (enough) control().last_epoch.store(epoch, release("TRAIN.last"));
  control().judged_epoch.store(epoch, release("TRAIN.judged"));  // -> await_judgement
  control().judged.notify_all();
}

void Policy::await_judgement(std::uint64_t epoch, const WorkerContext& context) {
  if (plan_.target_accuracy == 0) return;
  const auto judged = [&] {
    return control().judged_epoch.load(acquire("TRAIN.judged")) >= epoch ||  // <- judge
           context.stop_requested();
  };
  // No probe: when the main process dies its workers die with it.
  (void)wait_for(control().judged, Deadline::never(), WaitStrategy::adaptive, judged,
                 [] { return Status::ready; });
}

std::size_t segment_bytes(const TrainPlan& plan) {
  const std::size_t parameters =
      parse_model(plan.model, plan.features, plan.classes).parameter_count();
  const std::size_t common = Slot<float[]>::bytes(weights_options(plan, parameters)) +
                             plan.epochs * sizeof(double) + 16 * page_bytes;
  return common + (plan.sync == Sync::bsp ? Bsp::segment_bytes(plan, parameters)
                                          : Asp::segment_bytes(plan, parameters));
}

std::unique_ptr<Policy> make_run(Segment& segment, const TrainPlan& plan) {
  auto run = open_run(segment, plan);
  run->control().last_epoch.store(plan.epochs, relaxed);  // workers do not exist yet
  run->begin();
  segment.open<SharedBuffer<TrainPlan>>(plan_name, {1})[0] = plan;
  return run;
}

std::unique_ptr<Policy> join_run(Segment& segment) {
  TrainPlan plan = segment.find<SharedBuffer<TrainPlan>>(plan_name)[0];
  plan.model[sizeof plan.model - 1] = '\0';
  return open_run(segment, plan);
}

}  // namespace heddle

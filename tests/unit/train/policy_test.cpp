#include "heddle/train/policy.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "heddle/base/error.hpp"
#include "heddle/train/optimizer.hpp"

namespace heddle {
namespace {

TrainPlan plan_for(Sync sync, const Dataset& train) {
  TrainPlan plan{};
  std::copy_n("mlp:16", 7, plan.model);
  plan.sync = sync;
  plan.workers = 3;
  plan.epochs = 4;
  plan.batch = sync == Sync::bsp ? 50 : 16;  // 50: neither the data nor 8 microbatches divide by it
  plan.microbatches = 8;
  plan.learning_rate = 0.1F;
  plan.momentum = sync == Sync::bsp ? 0.9F : 0.0F;
  plan.samples = static_cast<std::uint32_t>(train.samples);
  plan.features = static_cast<std::uint32_t>(train.features);
  plan.classes = static_cast<std::uint32_t>(train.classes);
  plan.seed = 11;
  return plan;
}

class PolicyTest : public testing::Test {
 protected:
  static Segment make_segment(const TrainPlan& plan) {
    return Segment::anonymous({.bytes = segment_bytes(plan), .participants = 16});
  }
  // Workers as threads, each a participant of its own, as processes are.
  static void work(const Segment& segment, const Dataset& train, int workers) {
    std::vector<std::thread> threads;
    for (int i = 0; i < workers; ++i) {
      threads.emplace_back([&] {
        Segment mine = Segment::adopt(segment.fd());
        WorkerContext context{[] { return false; }, [](std::uint64_t, double) {}};
        EXPECT_TRUE(join_run(mine)->work(train, context));
      });
    }
    for (std::thread& thread : threads) thread.join();
  }

  const SplitData data_ = load_digits();
};

// The same training written as a plain loop.
AlignedFloats train_plainly(const TrainPlan& plan, const Dataset& train, double& last_loss) {
  const Mlp model = parse_model(plan.model, plan.features, plan.classes);
  const Sgd sgd(plan.learning_rate, plan.momentum);
  const std::size_t count = model.parameter_count();
  AlignedFloats parameters(count), velocity(count), sum(count), part(count);
  Mlp::Workspace workspace = model.make_workspace(plan.batch);
  std::vector<std::uint32_t> order(train.samples);
  model.initialise(plan.seed, parameters);
  for (std::uint32_t epoch = 0; epoch < plan.epochs; ++epoch) {
    permutation(plan.seed, epoch, order);
    double loss = 0;
    for (std::size_t first = 0; first < order.size(); first += plan.batch) {
      const auto batch =
          std::span(order).subspan(first, std::min<std::size_t>(plan.batch, order.size() - first));
      std::fill(sum.begin(), sum.end(), 0.0F);
      for (std::size_t m = 0; m < plan.microbatches; ++m) {
        const std::size_t begin = m * batch.size() / plan.microbatches;
        const std::size_t end = (m + 1) * batch.size() / plan.microbatches;
        loss += model.loss_and_gradient(
            parameters, train, std::span<const std::uint32_t>(batch).subspan(begin, end - begin),
            part, workspace);
        for (std::size_t i = 0; i < count; ++i) sum[i] = m == 0 ? part[i] : sum[i] + part[i];
      }
      sgd.update(parameters, sum, velocity, parameters, velocity,
                 1.0F / static_cast<float>(batch.size()));
    }
    last_loss = loss / plan.samples;
  }
  return parameters;
}

TEST_F(PolicyTest, bsp_gives_the_bits_of_a_plain_loop_for_any_number_of_workers) {  // BSP-1
  const TrainPlan plan = plan_for(Sync::bsp, data_.train);
  double loss = 0;
  const AlignedFloats expected = train_plainly(plan, data_.train, loss);
  for (const int workers : {1, 2, 3}) {
    Segment segment = make_segment(plan);
    const auto run = make_run(segment, plan);
    work(segment, data_.train, workers);
    AlignedFloats parameters(run->model().parameter_count());
    run->final_parameters(parameters);
    EXPECT_EQ(parameters, expected) << workers;
    EXPECT_EQ(run->epochs_done(), plan.epochs);
    EXPECT_DOUBLE_EQ(run->loss_of(plan.epochs), loss);
  }
}

TEST_F(PolicyTest, bsp_publishes_the_parameters_of_each_epoch_once) {  // BSP-2
  const TrainPlan plan = plan_for(Sync::bsp, data_.train);
  Segment segment = make_segment(plan);
  const auto run = make_run(segment, plan);
  work(segment, data_.train, 3);
  AlignedFloats last(run->model().parameter_count());
  AlignedFloats published(last.size());
  run->final_parameters(last);
  EXPECT_EQ(run->weights().pull(published).version, plan.epochs);
  EXPECT_EQ(published, last);
}

TEST_F(PolicyTest, asp_does_every_shard_and_publishes_each_epoch_once) {  // ASP-1, ASP-2
  const TrainPlan plan = plan_for(Sync::asp, data_.train);
  Segment segment = make_segment(plan);
  const auto run = make_run(segment, plan);
  run->feed();
  work(segment, data_.train, 3);
  EXPECT_EQ(run->epochs_done(), plan.epochs);
  EXPECT_EQ(run->weights().version(), plan.epochs);
  AlignedFloats parameters(run->model().parameter_count());
  run->final_parameters(parameters);
  Mlp::Workspace workspace = run->model().make_workspace(64);
  EXPECT_GT(run->model().evaluate(parameters, data_.test, workspace).accuracy, 0.8);
  for (std::uint64_t epoch = 2; epoch <= plan.epochs; ++epoch) {
    EXPECT_LT(run->loss_of(epoch), run->loss_of(1));
  }
}

TEST_F(PolicyTest, a_verdict_ends_bsp_at_exactly_that_epoch) {
  TrainPlan plan = plan_for(Sync::bsp, data_.train);
  plan.target_accuracy = 0.5;  // any: the workers wait for the verdicts below
  Segment segment = make_segment(plan);
  const auto run = make_run(segment, plan);
  std::thread workers([&] { work(segment, data_.train, 2); });
  EXPECT_EQ(run->weights().wait_newer(0, Deadline::never()), Status::ready);
  run->judge(1, false);
  EXPECT_EQ(run->weights().wait_newer(1, Deadline::never()), Status::ready);
  AlignedFloats judged(run->model().parameter_count());
  AlignedFloats last(judged.size());
  EXPECT_EQ(run->weights().pull(judged).version, 2U);
  run->judge(2, true);
  workers.join();
  run->final_parameters(last);
  EXPECT_EQ(last, judged);
  EXPECT_EQ(run->last_epoch(), 2U);
}

TEST_F(PolicyTest, a_worker_that_is_asked_to_stop_gives_its_work_back) {
  const TrainPlan plan = plan_for(Sync::bsp, data_.train);
  double loss = 0;
  const AlignedFloats expected = train_plainly(plan, data_.train, loss);
  Segment segment = make_segment(plan);
  const auto run = make_run(segment, plan);
  {
    Segment leaving = Segment::adopt(segment.fd());
    int pieces = 0;
    WorkerContext context{[&] { return pieces == 21; }, [&](std::uint64_t, double) { ++pieces; }};
    EXPECT_FALSE(join_run(leaving)->work(data_.train, context));
  }
  work(segment, data_.train, 1);
  AlignedFloats parameters(expected.size());
  run->final_parameters(parameters);
  EXPECT_EQ(parameters, expected);
}

TEST_F(PolicyTest, a_worker_refuses_objects_that_do_not_fit_the_plan) {
  const TrainPlan plan = plan_for(Sync::bsp, data_.train);
  Segment segment = make_segment(plan);
  const auto run = make_run(segment, plan);
  auto& written = segment.find<SharedBuffer<TrainPlan>>("plan")[0];
  ++written.microbatches;
  EXPECT_THROW(join_run(segment), Error);
  written = plan;
  EXPECT_NO_THROW(join_run(segment));
}

TEST_F(PolicyTest, plans_that_cannot_work_are_refused) {
  const TrainPlan good = plan_for(Sync::bsp, data_.train);
  EXPECT_NO_THROW(check(good));
  const auto refused = [&](auto change) {
    TrainPlan plan = good;
    change(plan);
    EXPECT_THROW(check(plan), Error);
  };
  refused([](TrainPlan& p) { p.workers = 0; });
  refused([](TrainPlan& p) { p.workers = most_workers + 1; });
  refused([](TrainPlan& p) { p.epochs = 0; });
  refused([](TrainPlan& p) { p.batch = p.samples + 1; });
  refused([](TrainPlan& p) { p.microbatches = 0; });
  refused([](TrainPlan& p) { p.learning_rate = -1; });
  refused([](TrainPlan& p) { p.momentum = 1; });
  refused([](TrainPlan& p) { p.target_accuracy = 1.5; });
  EXPECT_THROW(parse_sync("both"), Error);
}

}  // namespace
}  // namespace heddle

#include "train_command.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <optional>
#include <span>
#include <stdexcept>
#include <thread>

#include "heddle/base/clock.hpp"
#include "heddle/base/error.hpp"
#include "heddle/run/stop_signals.hpp"
#include "heddle/run/supervisor.hpp"
#include "heddle/shm/segment.hpp"
#include "heddle/train/dataset.hpp"
#include "heddle/train/policy.hpp"
#include "heddle/train/sha256.hpp"
#include "option_checks.hpp"
#include "train_display.hpp"

namespace heddle {
namespace {

constexpr const char* own_names = "train-";  // of segments that nobody has named
constexpr std::size_t evaluation_batch = 64;

TrainPlan plan_from(const TrainOptions& options, const Dataset& train) {
  TrainPlan plan{};
  if (options.model.size() >= sizeof plan.model) {
    throw Error(Errc::invalid_argument, "the model \"" + options.model + "\" is too long");
  }
  std::copy(options.model.begin(), options.model.end(), plan.model);
  plan.sync = parse_sync(options.sync);
  const bool bsp = plan.sync == Sync::bsp;
  plan.workers = options.workers.value_or(std::max(1U, std::thread::hardware_concurrency()));
  plan.epochs = options.epochs;
  plan.batch = options.batch.value_or(bsp ? 64 : 16);
  plan.microbatches = options.microbatches;
  plan.learning_rate = options.learning_rate;
  plan.momentum = options.momentum.value_or(bsp ? 0.9F : 0.0F);
  plan.samples = static_cast<std::uint32_t>(train.samples);
  plan.features = static_cast<std::uint32_t>(train.features);
  plan.classes = static_cast<std::uint32_t>(train.classes);
  plan.seed = options.seed;
  plan.target_accuracy = options.target_accuracy;
  check(plan);
  if (!bsp && plan.momentum != 0) {
    throw Error(Errc::invalid_argument,
                "momentum goes with --sync bsp alone: asp's updates in place have no state");
  }
  parse_model(plan.model, plan.features, plan.classes);
  return plan;
}

Segment::Options segment_options(const TrainPlan& plan) {
  Segment::Options options;
  options.bytes = segment_bytes(plan) + Supervisor::segment_bytes(plan.workers);
  options.participants = std::min(max_participants, 2 * plan.workers + 16);  // and lookers-on
  options.objects = plan.workers + 32;
  return options;
}

// Nobody asked for a name: one of this process's own. Another may have it already, since in another
// namespace of processes the same number is another process.
Segment create_unnamed(const Segment::Options& options) {
  const std::string base = own_names + std::to_string(getpid());
  for (int i = 1;; ++i) {
    try {
      return Segment::create(i == 1 ? base : base + "-" + std::to_string(i), options);
    } catch (const Error& error) {
      if (error.code() != Errc::name_in_use || i == 100) throw;
    }
  }
}

Segment create_segment(const std::string& name, const Segment::Options& options) {
  if (name.empty()) return create_unnamed(options);
  // The workers of a main process that was killed need some milliseconds to end.
  const Deadline deadline = Deadline::after(std::chrono::milliseconds(300));
  for (;;) {
    try {
      return Segment::create(name, options);
    } catch (const Error& error) {
      if (error.code() != Errc::name_in_use || deadline.left(monotonic_ns()) <= 0) throw;
    }
    yield();
  }
}

// Every worker takes a descriptor; the usual soft limit is for programs that still use select().
void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

// Samples a second, over the last while.
class Rate {
 public:
  void add(std::uint64_t samples) {
    const std::int64_t now = monotonic_ns();
    if (samples_ == 0 && !value_) since_ = now;  // the workers are still starting
    samples_ += samples;
    if (now - since_ < 200'000'000) return;
    value_ = static_cast<double>(samples_) * 1e9 / static_cast<double>(now - since_);
    samples_ = 0;
    since_ = now;
  }
  /// Nothing before the first while is over.
  std::optional<double> value() const { return value_; }

 private:
  std::uint64_t samples_ = 0;
  std::optional<double> value_;
  std::int64_t since_ = monotonic_ns();
};

// The main process of a run, once everything is made.
class TrainRun {
 public:
  TrainRun(Policy& policy, Supervisor& supervisor, const Dataset& test, TrainDisplay& display)
      : policy_(policy),
        supervisor_(supervisor),
        test_(test),
        display_(display),
        reader_(policy.weights().reader()),
        workspace_(policy.model().make_workspace(evaluation_batch)) {}

  int run() {
    const std::int64_t start = monotonic_ns();
    while (supervisor_.state() == Supervisor::State::running) {
      policy_.feed();
      // Sleeps until there are new weights, and looks after the workers every few milliseconds.
      // Without a publisher (they start, or are all dead) the supervisor's wait is the longer one.
      const auto slice = Deadline::after(std::chrono::milliseconds(5));
      const Status status = policy_.weights().wait_newer(seen_, slice, WaitStrategy::sleep);
      const bool nobody = status == Status::peer_died;
      for (const auto& happening : supervisor_.poll(nobody ? slice : Deadline::now())) {
        if (tell(happening)) return 128 + happening.signal;
      }
      if (supervisor_.state() == Supervisor::State::failed) return 1;
      drain_events();
      if (status == Status::ready) look_at_weights();
    }
    const double seconds = static_cast<double>(monotonic_ns() - start) / 1e9;
    look_at_weights();
    finish(seconds);
    return 0;
  }

 private:
  // True: it is time to end.
  bool tell(const Supervisor::Happening& happening) {
    using Kind = Supervisor::Happening::Kind;
    switch (happening.kind) {
      case Kind::started:
        display_.worker_started(happening.rank, happening.pid);
        return false;
      case Kind::died:
        display_.worker_died(happening.rank, happening.pid, happening.text);
        return false;
      case Kind::finished:
        return false;
      case Kind::gave_up:
        display_.failed(happening.text);
        return false;
      case Kind::interrupted:
        supervisor_.stop();
        display_.interrupted();
        return true;
    }
    return false;
  }

  void drain_events() {
    WorkerEvent event{};
    std::uint64_t samples = 0;
    for (std::uint32_t rank = 0; rank < policy_.plan().workers; ++rank) {
      while (supervisor_.events(rank).pop(event)) samples += event.samples;
    }
    rate_.add(samples);
  }

  // Evaluates the newest weights, if they are new, and shows all epochs up to theirs.
  void look_at_weights() {
    const auto view = reader_.pull();
    if (!view || view.reading().version <= seen_) return;
    const Evaluation test = policy_.model().evaluate(view.values(), test_, workspace_);
    const std::uint64_t epoch = view.reading().version;
    const double target = policy_.plan().target_accuracy;
    policy_.judge(epoch, target > 0 && test.accuracy >= target);
    for (std::uint64_t e = seen_ + 1; e <= epoch; ++e) {
      display_.epoch(e, policy_.loss_of(e), e == epoch ? std::optional(test) : std::nullopt,
                     rate_.value(), supervisor_.restarts());
    }
    seen_ = epoch;
  }

  void finish(double seconds) {
    AlignedFloats parameters(policy_.model().parameter_count());
    const std::uint64_t epochs = policy_.last_epoch();
    if (!policy_.final_parameters(parameters) || policy_.epochs_done() < epochs) {
      throw std::logic_error("the workers ended with " + std::to_string(policy_.epochs_done()) +
                             " of " + std::to_string(epochs) + " epochs done");
    }
    display_.done({epochs, policy_.model().evaluate(parameters, test_, workspace_),
                   policy_.loss_of(epochs), seconds, supervisor_.restarts(),
                   sha256_hex(std::as_bytes(std::span<const float>(parameters)))});
  }

  Policy& policy_;
  Supervisor& supervisor_;
  const Dataset& test_;
  TrainDisplay& display_;
  Slot<float[]>::Reader reader_;
  Mlp::Workspace workspace_;
  Rate rate_;
  Version seen_ = 0;
};

}  // namespace

CLI::App* add_train_command(CLI::App& app, TrainOptions& options) {
  CLI::App* train = app.add_subcommand("train", "train a model with several worker processes");
  train->add_option("--data", options.data, "the data set: digits")->capture_default_str();
  train->add_option("--model", options.model, "softmax, mlp:64 or mlp:128,64")
      ->capture_default_str();
  train->add_option("--workers", options.workers, "worker processes [the number of cores]");
  train->add_option("--sync", options.sync, "bsp (synchronous) or asp (asynchronous)")
      ->capture_default_str();
  train->add_option("--epochs", options.epochs, "passes over the data")->capture_default_str();
  train->add_option("--batch", options.batch, "samples in a step [64; asp: 16]");
  train->add_option("--microbatches", options.microbatches, "pieces of a bsp step's batch")
      ->capture_default_str();
  train->add_option("--lr", options.learning_rate, "the learning rate")->capture_default_str();
  train->add_option("--momentum", options.momentum, "of bsp's optimizer [0.9]");
  train->add_option("--seed", options.seed, "of initial weights and sample order")
      ->capture_default_str();
  train->add_option("--max-restarts", options.max_restarts, "of workers that died, in all")
      ->capture_default_str();
  train->add_option("--target-accuracy", options.target_accuracy,
                    "stop after the first epoch that reaches it on the test set");
  train->add_option("--segment", options.segment,
                    "the shared segment's name [train-PID]; others may look on");
  train->add_flag("--json", options.json, "print one JSON object a line");
  check_whole(*train,
              {"--workers", "--epochs", "--batch", "--microbatches", "--seed", "--max-restarts"});
  check_decimal(*train, {"--lr", "--momentum", "--target-accuracy"});
  return train;
}

int train_command(const TrainOptions& options) {
  if (options.data != "digits") {
    throw Error(Errc::invalid_argument,
                "unknown data set \"" + options.data + "\": there is digits");
  }
  const SplitData data = load_digits();
  const TrainPlan plan = plan_from(options, data.train);
  raise_descriptor_limit();
  const StopSignals signals;  // before anything is made: from here on all is cleared up
  Segment::clear_abandoned(own_names);
  Segment segment = create_segment(options.segment, segment_options(plan));
  const auto policy = make_run(segment, plan);
  Supervisor::Options workers;
  workers.command = {std::filesystem::read_symlink("/proc/self/exe"), "worker"};
  workers.workers = plan.workers;
  workers.max_restarts = options.max_restarts;
  Supervisor supervisor(segment, workers);
  TrainDisplay display(TrainDisplay::form_for(options.json), policy->plan(), signals);
  display.began(segment.name());
  const int code = TrainRun(*policy, supervisor, data.test, display).run();
  Segment::clear_abandoned(own_names);  // of a run that was killed just before this one began
  return code;
}

}  // namespace heddle

#include "worker_command.hpp"

#include <cstdio>

#include "heddle/base/clock.hpp"
#include "heddle/base/error.hpp"
#include "heddle/run/supervisor.hpp"
#include "heddle/run/worker.hpp"
#include "heddle/train/dataset.hpp"
#include "heddle/train/policy.hpp"

namespace heddle {
namespace {

constexpr int left_early = 128 + 15;  // as if SIGTERM had ended it: its supervisor starts it again

// Adds up what a worker did and tells it now and then: its ring is read every few milliseconds.
class Reporter {
 public:
  explicit Reporter(Worker& worker) : worker_(worker) {}
  void did(std::uint64_t samples, double loss) {
    event_.samples += samples;
    event_.loss_sum += loss;
    ++event_.step;
    const std::int64_t now = monotonic_ns();
    if (now >= next_ && worker_.report(event_)) {
      event_.samples = 0;
      event_.loss_sum = 0;
      next_ = now + between;
    }
  }

 private:
  static constexpr std::int64_t between = 10'000'000;
  Worker& worker_;
  WorkerEvent event_{};
  std::int64_t next_ = monotonic_ns() + between;
};

int run_worker() {
  Worker worker = Worker::from_environment();
  const auto run = join_run(worker.segment());
  const SplitData data = load_digits();
  if (data.train.samples != run->plan().samples || data.train.features != run->plan().features) {
    throw Error(Errc::bad_data, "this worker's data set is not the one that the run began with");
  }
  Reporter reporter(worker);
  WorkerContext context{[&] { return worker.stop_requested(); },
                        [&](std::uint64_t samples, double loss) { reporter.did(samples, loss); }};
  return run->work(data.train, context) ? 0 : left_early;
}

}  // namespace

int worker_command() {
  try {
    return run_worker();
  } catch (const Error& error) {
    std::fprintf(stderr, "heddle worker: %s\n", error.what());
    // What would fail again ends the run; what may pass (no room, no place) is tried again.
    switch (error.code()) {
      case Errc::invalid_argument:
      case Errc::bad_data:
      case Errc::corrupt:
      case Errc::layout_mismatch:
      case Errc::type_mismatch:
      case Errc::not_found:
        return Supervisor::bad_input;
      default:
        return 1;
    }
  }
}

}  // namespace heddle

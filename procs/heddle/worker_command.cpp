#include "worker_command.hpp"

#include "heddle/base/clock.hpp"
#include "heddle/base/error.hpp"
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
      next_ = now + 10'000'000;
    }
  }

 private:
  Worker& worker_;
  WorkerEvent event_{};
  std::int64_t next_ = 0;
};

}  // namespace

int worker_command() {
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

}  // namespace heddle

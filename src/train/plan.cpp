#include "heddle/train/plan.hpp"

#include <cmath>
#include <string>

#include "heddle/base/error.hpp"

namespace heddle {
namespace {

void check_range(const char* what, std::uint64_t value, std::uint64_t least, std::uint64_t most) {
  if (value >= least && value <= most) return;
  throw Error(Errc::invalid_argument, std::string(what) + " must be " + std::to_string(least) +
                                          " to " + std::to_string(most) + ", not " +
                                          std::to_string(value));
}

}  // namespace

const char* to_string(Sync sync) noexcept { return sync == Sync::bsp ? "bsp" : "asp"; }

Sync parse_sync(std::string_view text) {
  for (const Sync sync : {Sync::bsp, Sync::asp}) {
    if (text == to_string(sync)) return sync;
  }
  throw Error(Errc::invalid_argument,
              "unknown synchronisation \"" + std::string(text) + "\": it is bsp or asp");
}

void check(const TrainPlan& plan) {
  check_range("the number of workers", plan.workers, 1, most_workers);
  check_range("the number of epochs", plan.epochs, 1, 100'000);
  check_range("the batch", plan.batch, 1, plan.samples);
  check_range("the number of microbatches", plan.microbatches, 1, 1024);
  if (!(plan.learning_rate > 0 && plan.learning_rate <= 1000)) {
    throw Error(Errc::invalid_argument, "the learning rate must be above 0 and at most 1000, not " +
                                            std::to_string(plan.learning_rate));
  }
  if (!(plan.momentum >= 0 && plan.momentum < 1)) {
    throw Error(Errc::invalid_argument, "the momentum must be at least 0 and below 1, not " +
                                            std::to_string(plan.momentum));
  }
  if (!(plan.target_accuracy >= 0 && plan.target_accuracy <= 1)) {
    throw Error(Errc::invalid_argument,
                "the target accuracy must be 0 to 1, not " + std::to_string(plan.target_accuracy));
  }
}

}  // namespace heddle

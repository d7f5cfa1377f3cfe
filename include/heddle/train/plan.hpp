#pragma once

// TrainPlan: all that a run depends on, as it stands in the segment for every worker to read.

#include <cstdint>
#include <string_view>

namespace heddle {

enum class Sync : std::uint32_t {
  bsp,  ///< synchronous: all workers do one step together; bit-identical for any number of them
  asp,  ///< asynchronous: shards of an epoch are tasks, parameters are updated in place
};

const char* to_string(Sync sync) noexcept;
/// Throws Error{invalid_argument} that names the choices.
Sync parse_sync(std::string_view text);

struct TrainPlan {
  char model[64];  ///< as parse_model reads it, ends with 0
  Sync sync;
  std::uint32_t workers;
  std::uint32_t epochs;
  std::uint32_t batch;         ///< samples in a step (bsp) or an update (asp)
  std::uint32_t microbatches;  ///< pieces of a bsp step's batch
  float learning_rate;
  float momentum;         ///< bsp alone
  std::uint32_t samples;  ///< of the training set, against which workers check theirs
  std::uint32_t features;
  std::uint32_t classes;
  std::uint64_t seed;
  double target_accuracy;  ///< stop after the first epoch that reaches it; 0: none

  std::uint32_t steps_per_epoch() const { return (samples + batch - 1) / batch; }
  std::uint64_t steps() const { return std::uint64_t{epochs} * steps_per_epoch(); }

  // asp: a shard is a few batches, so that what a death costs is small beside an epoch, and taking
  // a task is small beside its work.
  static constexpr std::uint32_t batches_per_shard = 4;
  std::uint32_t shards_per_epoch() const {
    return (steps_per_epoch() + batches_per_shard - 1) / batches_per_shard;
  }
};
static_assert(sizeof(TrainPlan) == 120);

inline constexpr std::uint32_t most_workers = 256;

/// Throws Error{invalid_argument} that says which value and what it may be.
void check(const TrainPlan& plan);

}  // namespace heddle

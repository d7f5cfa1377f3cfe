#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>

namespace heddle {

struct TrainOptions {
  std::string data = "digits";
  std::string model = "mlp:64";
  std::string sync = "bsp";
  std::optional<std::uint32_t> workers;  // the cores
  std::uint32_t epochs = 300;
  std::optional<std::uint32_t> batch;  // 64 in bsp, 16 in asp
  std::uint32_t microbatches = 8;
  float learning_rate = 0.1F;
  std::optional<float> momentum;  // 0.9 in bsp; asp has none
  std::uint64_t seed = 1;
  std::uint32_t max_restarts = 100;
  double target_accuracy = 0;
  std::string segment;  // empty: a name of this process's own
  bool json = false;
};

/// Adds "train" to the program's commands; its options land in `options`.
CLI::App* add_train_command(CLI::App& app, TrainOptions& options);

/// Trains. Returns the exit code: 0 done, 1 given up, 130 interrupted. Throws Error for bad input,
/// before anything is made.
int train_command(const TrainOptions& options);

}  // namespace heddle

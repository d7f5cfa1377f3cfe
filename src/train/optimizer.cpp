#include "heddle/train/optimizer.hpp"

#include <cmath>
#include <string>

#include "heddle/base/error.hpp"

namespace heddle {

Sgd::Sgd(float learning_rate, float momentum) : learning_rate_(learning_rate), momentum_(momentum) {
  if (!std::isfinite(learning_rate) || learning_rate <= 0) {
    throw Error(Errc::invalid_argument, "a learning rate of " + std::to_string(learning_rate) +
                                            " cannot work: give a number above 0");
  }
  if (!(momentum >= 0 && momentum < 1)) {
    throw Error(Errc::invalid_argument, "a momentum of " + std::to_string(momentum) +
                                            " cannot work: give a number from 0 to below 1");
  }
}

void Sgd::update(std::span<const float> parameters, std::span<const float> gradient_sum,
                 std::span<const float> state, std::span<float> next_parameters,
                 std::span<float> next_state, float scale) const {
  const std::size_t count = parameters.size();
  if (gradient_sum.size() != count || next_parameters.size() != count ||
      state.size() != state_count(count) || next_state.size() != state_count(count)) {
    throw Error(Errc::invalid_argument, "the arrays of an update differ in size");
  }
  // OPT-1 holds under any vector width, since this file is compiled without fused multiply-add
  // across statements (-ffp-contract=off): a fused body and an unfused tail would round apart.
  if (momentum_ == 0) {
    for (std::size_t i = 0; i < count; ++i) {
      next_parameters[i] = parameters[i] - learning_rate_ * (scale * gradient_sum[i]);
    }
    return;
  }
  // Element by element: OPT-2, OPT-3.
  for (std::size_t i = 0; i < count; ++i) {
    const float velocity = momentum_ * state[i] + scale * gradient_sum[i];
    next_state[i] = velocity;
    next_parameters[i] = parameters[i] - learning_rate_ * velocity;
  }
}

}  // namespace heddle

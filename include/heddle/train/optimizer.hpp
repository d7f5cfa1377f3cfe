#pragma once

// Optimizer: from parameters and the sum of gradients to the next parameters.
//
// Who may call    anyone; an optimizer is only values, its state belongs to the caller
// Invariants      OPT-1  every element is computed from its own inputs by the same operations, so
//                        any cut into stripes gives the same bits
//                 OPT-2  the inputs are not written (the outputs are other memory, or exactly the
//                        same arrays when the caller updates in place)
//                 OPT-3  a zero parameter with zero gradient and zero state stays zero

#include <concepts>
#include <cstddef>
#include <span>

namespace heddle {

/// What a trainer asks of an optimizer. `state_count` is linear: a stripe of parameters [a, b) has
/// the state [state_count(a), state_count(b)). State begins as zeroes.
template <class O>
concept Optimizer = requires(const O& optimizer, std::size_t count, std::span<const float> in,
                             std::span<float> out, float scale) {
  { optimizer.state_count(count) } -> std::same_as<std::size_t>;
  // parameters, gradient sum, state; the next parameters, the next state; 1 / samples in the sum
  optimizer.update(in, in, in, out, out, scale);
};

/// Stochastic gradient descent: v' = momentum v + scale g, p' = p - learning_rate v'.
/// Without momentum (0) there is no state, and v' is scale g.
class Sgd {
 public:
  /// Throws Error(invalid_argument) unless 0 < learning_rate < inf and 0 <= momentum < 1.
  explicit Sgd(float learning_rate, float momentum = 0);

  float learning_rate() const noexcept { return learning_rate_; }
  float momentum() const noexcept { return momentum_; }

  std::size_t state_count(std::size_t parameters) const noexcept {
    return momentum_ == 0 ? 0 : parameters;
  }

  /// Throws Error(invalid_argument) when the sizes do not fit. Never allocates.
  void update(std::span<const float> parameters, std::span<const float> gradient_sum,
              std::span<const float> state, std::span<float> next_parameters,
              std::span<float> next_state, float scale) const;

 private:
  float learning_rate_;
  float momentum_;
};
static_assert(Optimizer<Sgd>);

}  // namespace heddle

#pragma once

// Model: what a trainer needs of one, and Mlp, the multilayer perceptron.
//
// Who may call    any number of threads and processes at once, each with its own Workspace; a
//                 model owns neither parameters nor gradients, both are arrays of the caller
// State           parameters: one flat array; for each layer `in` rows of weights, each of `stride`
//                 floats (the first `out` count), then a row of biases
// Invariants      MODEL-1  the bits of a result depend on the arguments alone: not on what the
//                          workspace was used for, who computes, or when (on one machine with one
//                          build: the C library's exp and log may differ on another)
//                 MODEL-2  every row begins at float_alignment and is padded with zeroes; gradients
//                          of the padding are zero, so it stays zero through training
//                 MODEL-3  after construction nothing is allocated
// Errors          Error(invalid_argument) for arrays of the wrong size or alignment, for samples
//                 that are not in the data set and for data of another shape

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "heddle/train/aligned.hpp"
#include "heddle/train/dataset.hpp"

namespace heddle {

struct Evaluation {
  double loss = 0;      ///< mean over the samples
  double accuracy = 0;  ///< share of samples whose most likely class is the label
};

/// What a trainer asks of a model. A Workspace is scratch memory, sized once for the largest batch.
template <class M>
concept Model = requires(const M& model, typename M::Workspace& workspace, const Dataset& data,
                         std::span<const std::uint32_t> samples, std::span<const float> parameters,
                         std::span<float> out, std::uint64_t seed, std::size_t batch) {
  { model.parameter_count() } -> std::same_as<std::size_t>;
  { model.make_workspace(batch) } -> std::same_as<typename M::Workspace>;
  model.initialise(seed, out);
  // Writes the sum of the samples' gradients, returns the sum of their losses.
  { model.loss_and_gradient(parameters, data, samples, out, workspace) } -> std::same_as<double>;
  { model.evaluate(parameters, data, workspace) } -> std::same_as<Evaluation>;
};

/// Hidden layers of rectified linear units, softmax with cross-entropy at the end. Without hidden
/// layers this is softmax regression.
class Mlp {
 public:
  static constexpr std::size_t most_hidden_layers = 8;
  static constexpr std::size_t widest_layer = 4096;

  struct Layer {
    std::size_t in;           ///< rows of weights
    std::size_t out;          ///< units
    std::size_t stride;       ///< floats from row to row: `out` padded
    std::size_t weights;      ///< where the weights begin in the parameters
    std::size_t biases;       ///< where the biases begin in the parameters
    std::size_t activations;  ///< floats before this layer's in the workspace, for each sample
  };

  class Workspace {
   public:
    std::size_t batch() const noexcept { return batch_; }

   private:
    friend class Mlp;
    Workspace(std::size_t batch, std::size_t floats_per_sample)
        : batch_(batch), memory_(batch * floats_per_sample) {}

    std::size_t batch_;
    AlignedFloats memory_;
  };

  Mlp(std::size_t features, std::span<const std::size_t> hidden, std::size_t classes);

  std::size_t features() const noexcept { return layers_.front().in; }
  std::size_t classes() const noexcept { return layers_.back().out; }
  std::span<const Layer> layers() const& noexcept { return layers_; }
  void layers() const&& = delete;  // would outlive the model

  /// Floats in the flat array, padding included.
  std::size_t parameter_count() const noexcept { return parameter_count_; }
  /// Weights and biases alone.
  std::size_t weight_count() const noexcept;

  Workspace make_workspace(std::size_t largest_batch) const;

  /// He initialisation, uniform; biases and padding are zero. The same bits on every machine.
  void initialise(std::uint64_t seed, std::span<float> parameters) const;

  /// Writes into `gradient` the sum of the gradients at `samples`, and returns the sum of their
  /// losses, both in the order of `samples`. No samples give zeroes.
  double loss_and_gradient(std::span<const float> parameters, const Dataset& data,
                           std::span<const std::uint32_t> samples, std::span<float> gradient,
                           Workspace& workspace) const;

  /// The most likely class of each sample.
  void predict(std::span<const float> parameters, const Dataset& data,
               std::span<const std::uint32_t> samples, std::span<std::uint32_t> classes,
               Workspace& workspace) const;

  /// Over the whole data set, in batches of 64 or of the workspace's size if that is less.
  Evaluation evaluate(std::span<const float> parameters, const Dataset& data,
                      Workspace& workspace) const;

 private:
  float* activations(Workspace& workspace, std::size_t layer) const noexcept;
  void check(std::span<const float> parameters, const Dataset& data, std::size_t samples,
             const Workspace& workspace) const;
  void gather(const Dataset& data, std::span<const std::uint32_t> samples,
              Workspace& workspace) const;
  void forward(std::span<const float> parameters, std::size_t samples, Workspace& workspace) const;
  void backward(std::span<const float> parameters, std::size_t samples, std::span<float> gradient,
                Workspace& workspace) const;

  std::vector<Layer> layers_;
  std::size_t input_stride_;
  std::size_t parameter_count_ = 0;
  std::size_t floats_per_sample_ = 0;
  std::size_t spare_ = 0;  // floats before the backward pass's scratch, for each sample
};
static_assert(Model<Mlp>);

/// "softmax", "mlp:64", "mlp:128,64". Throws Error(invalid_argument) that says what can be given.
Mlp parse_model(std::string_view text, std::size_t features, std::size_t classes);

}  // namespace heddle

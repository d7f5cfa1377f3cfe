#include "heddle/train/model.hpp"

#include <Eigen/Core>
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <numeric>
#include <string>
#include <system_error>

#include "heddle/base/error.hpp"
#include "heddle/train/random.hpp"

namespace heddle {
namespace {

using Eigen::Index;
using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Rows = Eigen::Map<RowMajor, Eigen::Aligned64, Eigen::OuterStride<>>;
using ConstRows = Eigen::Map<const RowMajor, Eigen::Aligned64, Eigen::OuterStride<>>;

Rows rows(float* at, std::size_t count, std::size_t width, std::size_t stride) {
  return {at, static_cast<Index>(count), static_cast<Index>(width),
          Eigen::OuterStride<>(static_cast<Index>(stride))};
}

ConstRows rows(const float* at, std::size_t count, std::size_t width, std::size_t stride) {
  return {at, static_cast<Index>(count), static_cast<Index>(width),
          Eigen::OuterStride<>(static_cast<Index>(stride))};
}

// out = a b, in tiles that are added in a fixed order. Within a tile Eigen neither cuts the sums by
// the size of this core's caches (MODEL-1) nor needs more than the stack for packing (MODEL-3).
template <class A, class B>
void multiply(const A& a, const B& b, Rows out) {
  constexpr Index tile = 128;
  static_assert(tile * tile * sizeof(float) <= EIGEN_STACK_ALLOCATION_LIMIT);
  const Index depth = a.cols();
  for (Index row = 0; row < out.rows(); row += tile) {
    const Index height = std::min(tile, out.rows() - row);
    for (Index column = 0; column < out.cols(); column += tile) {
      const Index width = std::min(tile, out.cols() - column);
      auto part = out.block(row, column, height, width);
      for (Index k = 0; k < depth; k += tile) {
        const Index length = std::min(tile, depth - k);
        const auto left = a.block(row, k, height, length);
        const auto right = b.block(k, column, length, width);
        if (k == 0) {
          part.noalias() = left * right;
        } else {
          part.noalias() += left * right;
        }
      }
    }
  }
}

// The loss of one sample: log(sum of exp(logits)) - logits[label]. The largest logit is taken out
// first, so that no exponential overflows. With `delta` the logits become the loss's gradient.
double cross_entropy(std::span<float> logits, std::size_t label, bool delta) {
  const float largest = *std::max_element(logits.begin(), logits.end());
  const float of_label = logits[label] - largest;
  float sum = 0;
  for (float& logit : logits) {
    const float exponential = std::exp(logit - largest);
    sum += exponential;
    if (delta) logit = exponential;
  }
  if (delta) {
    for (float& logit : logits) logit /= sum;
    logits[label] -= 1;
  }
  return std::log(static_cast<double>(sum)) - static_cast<double>(of_label);
}

std::size_t most_likely(std::span<const float> logits) {
  return static_cast<std::size_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

void require(bool holds, const char* otherwise) {
  if (!holds) throw Error(Errc::invalid_argument, otherwise);
}

bool is_aligned(const float* at) {
  return reinterpret_cast<std::uintptr_t>(at) % float_alignment == 0;
}

}  // namespace

Mlp::Mlp(std::size_t features, std::span<const std::size_t> hidden, std::size_t classes)
    : input_stride_(align_up(features)) {
  constexpr std::size_t most_features = std::size_t{1} << 20U;
  constexpr std::size_t most_classes = std::size_t{1} << 16U;
  require(features >= 1 && features <= most_features, "a model has 1 to 1048576 features");
  require(classes >= 2 && classes <= most_classes, "a model has 2 to 65536 classes");
  require(hidden.size() <= most_hidden_layers, "a model has at most 8 hidden layers");

  std::size_t in = features;
  std::size_t widest = 0;
  floats_per_sample_ = input_stride_;
  const auto add = [&](std::size_t out) {
    const std::size_t stride = align_up(out);  // MODEL-2
    const std::size_t weights = parameter_count_;
    const std::size_t biases = weights + in * stride;
    layers_.push_back({in, out, stride, weights, biases, floats_per_sample_});
    parameter_count_ = biases + stride;
    floats_per_sample_ += stride;
    in = out;
  };
  for (const std::size_t width : hidden) {
    require(width >= 1 && width <= widest_layer, "a hidden layer has 1 to 4096 units");
    add(width);
    widest = std::max(widest, align_up(width));
  }
  add(classes);
  spare_ = floats_per_sample_;
  floats_per_sample_ += widest;
}

std::size_t Mlp::weight_count() const noexcept {
  std::size_t count = 0;
  for (const Layer& layer : layers_) count += (layer.in + 1) * layer.out;
  return count;
}

Mlp::Workspace Mlp::make_workspace(std::size_t largest_batch) const {
  require(largest_batch >= 1, "a workspace is for at least one sample");
  return {largest_batch, floats_per_sample_};
}

void Mlp::initialise(std::uint64_t seed, std::span<float> parameters) const {
  require(parameters.size() == parameter_count_, "the parameters are not those of this model");
  std::fill(parameters.begin(), parameters.end(), 0.0F);
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    // Variance 2 / in before a rectifier, which halves it, and 1 / in before the softmax.
    const float numerator = i + 1 < layers_.size() ? 6.0F : 3.0F;
    const float bound = std::sqrt(numerator / static_cast<float>(layer.in));
    Random random(seed, Random::Purpose::initialise, i);
    for (std::size_t row = 0; row < layer.in; ++row) {
      for (std::size_t unit = 0; unit < layer.out; ++unit) {
        parameters[layer.weights + row * layer.stride + unit] = bound * random.signed_unit();
      }
    }
  }
}

float* Mlp::activations(Workspace& workspace, std::size_t layer) const noexcept {
  return workspace.memory_.data() + workspace.batch_ * layers_[layer].activations;
}

void Mlp::check(std::span<const float> parameters, const Dataset& data, std::size_t samples,
                const Workspace& workspace) const {
  require(parameters.size() == parameter_count_, "the parameters are not those of this model");
  require(is_aligned(parameters.data()), "the parameters do not begin at a multiple of 64 bytes");
  require(data.features == features(), "the data set has other features than the model");
  require(workspace.memory_.size() == workspace.batch_ * floats_per_sample_,
          "the workspace is another model's");
  require(samples <= workspace.batch_, "the batch is larger than the workspace");
}

void Mlp::gather(const Dataset& data, std::span<const std::uint32_t> samples,
                 Workspace& workspace) const {
  float* to = workspace.memory_.data();
  for (const std::uint32_t sample : samples) {
    require(sample < data.samples, "a sample is not in the data set");
    require(data.labels[sample] < classes(), "a label is none of the model's classes");
    const std::span<const float> row = data.row(sample);
    std::copy(row.begin(), row.end(), to);
    to += input_stride_;
  }
}

void Mlp::forward(std::span<const float> parameters, std::size_t samples,
                  Workspace& workspace) const {
  const float* input = workspace.memory_.data();
  std::size_t input_stride = input_stride_;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    float* output = activations(workspace, i);
    multiply(rows(input, samples, layer.in, input_stride),
             rows(parameters.data() + layer.weights, layer.in, layer.stride, layer.stride),
             rows(output, samples, layer.stride, layer.stride));
    const float* biases = parameters.data() + layer.biases;
    const bool rectified = i + 1 < layers_.size();
    for (std::size_t sample = 0; sample < samples; ++sample) {
      float* row = output + sample * layer.stride;
      for (std::size_t unit = 0; unit < layer.stride; ++unit) {
        const float value = row[unit] + biases[unit];
        row[unit] = rectified && value < 0 ? 0 : value;  // a NaN stays one, and shows in the loss
      }
    }
    input = output;
    input_stride = layer.stride;
  }
}

// On entry the last layer's activations hold the gradient by its logits ("delta"). Going down, each
// layer's activations become its delta as soon as the layer above has used them.
void Mlp::backward(std::span<const float> parameters, std::size_t samples,
                   std::span<float> gradient, Workspace& workspace) const {
  float* spare = workspace.memory_.data() + workspace.batch_ * spare_;
  for (std::size_t i = layers_.size(); i-- > 0;) {
    const Layer& layer = layers_[i];
    const float* delta = activations(workspace, i);
    float* input = i == 0 ? workspace.memory_.data() : activations(workspace, i - 1);
    const std::size_t input_stride = i == 0 ? input_stride_ : layers_[i - 1].stride;

    multiply(rows(static_cast<const float*>(input), samples, layer.in, input_stride).transpose(),
             rows(delta, samples, layer.stride, layer.stride),
             rows(gradient.data() + layer.weights, layer.in, layer.stride, layer.stride));
    float* biases = gradient.data() + layer.biases;
    std::fill_n(biases, layer.stride, 0.0F);
    for (std::size_t sample = 0; sample < samples; ++sample) {
      for (std::size_t unit = 0; unit < layer.stride; ++unit) {
        biases[unit] += delta[sample * layer.stride + unit];
      }
    }
    if (i == 0) return;

    multiply(rows(delta, samples, layer.out, layer.stride),
             rows(parameters.data() + layer.weights, layer.in, layer.out, layer.stride).transpose(),
             rows(spare, samples, layer.in, input_stride));
    for (std::size_t sample = 0; sample < samples; ++sample) {
      float* active = input + sample * input_stride;
      const float* arriving = spare + sample * input_stride;
      for (std::size_t unit = 0; unit < layer.in; ++unit) {
        active[unit] = active[unit] > 0 ? arriving[unit] : 0;
      }
    }
  }
}

double Mlp::loss_and_gradient(std::span<const float> parameters, const Dataset& data,
                              std::span<const std::uint32_t> samples, std::span<float> gradient,
                              Workspace& workspace) const {
  check(parameters, data, samples.size(), workspace);
  require(gradient.size() == parameter_count_, "the gradient is not that of this model");
  require(is_aligned(gradient.data()), "the gradient does not begin at a multiple of 64 bytes");
  if (samples.empty()) {
    std::fill(gradient.begin(), gradient.end(), 0.0F);
    return 0;
  }

  gather(data, samples, workspace);
  forward(parameters, samples.size(), workspace);
  float* logits = activations(workspace, layers_.size() - 1);
  double loss = 0;
  for (const std::uint32_t sample : samples) {
    loss += cross_entropy({logits, classes()}, data.labels[sample], true);
    logits += layers_.back().stride;
  }
  backward(parameters, samples.size(), gradient, workspace);
  return loss;
}

void Mlp::predict(std::span<const float> parameters, const Dataset& data,
                  std::span<const std::uint32_t> samples, std::span<std::uint32_t> classes,
                  Workspace& workspace) const {
  check(parameters, data, samples.size(), workspace);
  require(classes.size() == samples.size(), "there is not one answer for each sample");
  gather(data, samples, workspace);
  forward(parameters, samples.size(), workspace);
  const float* logits = activations(workspace, layers_.size() - 1);
  for (std::uint32_t& answer : classes) {
    answer = static_cast<std::uint32_t>(most_likely({logits, this->classes()}));
    logits += layers_.back().stride;
  }
}

Evaluation Mlp::evaluate(std::span<const float> parameters, const Dataset& data,
                         Workspace& workspace) const {
  if (data.samples == 0) return {};
  constexpr std::size_t most = 64;
  std::array<std::uint32_t, most> numbers;
  double loss = 0;
  std::size_t right = 0;
  for (std::size_t first = 0; first < data.samples;) {
    const std::size_t count = std::min({most, workspace.batch_, data.samples - first});
    const std::span samples(numbers.data(), count);
    std::iota(samples.begin(), samples.end(), static_cast<std::uint32_t>(first));
    check(parameters, data, count, workspace);
    gather(data, samples, workspace);
    forward(parameters, count, workspace);
    float* logits = activations(workspace, layers_.size() - 1);
    for (const std::uint32_t sample : samples) {
      right += most_likely({logits, classes()}) == data.labels[sample];
      loss += cross_entropy({logits, classes()}, data.labels[sample], false);
      logits += layers_.back().stride;
    }
    first += count;
  }
  const auto samples = static_cast<double>(data.samples);
  return {loss / samples, static_cast<double>(right) / samples};
}

Mlp parse_model(std::string_view text, std::size_t features, std::size_t classes) {
  const auto refuse = [&](const std::string& why) {
    throw Error(Errc::invalid_argument, "model \"" + std::string(text) + "\" " + why +
                                            ": give softmax, or mlp: with the widths of 1 to " +
                                            std::to_string(Mlp::most_hidden_layers) +
                                            " hidden layers, as mlp:128,64");
  };
  if (text == "softmax") return {features, {}, classes};

  constexpr std::string_view prefix = "mlp:";
  if (!text.starts_with(prefix)) refuse("is unknown");
  std::vector<std::size_t> widths;
  for (std::string_view rest = text.substr(prefix.size());;) {
    const std::string_view number = rest.substr(0, rest.find(','));
    const char* end = number.data() + number.size();
    std::size_t width = 0;
    const auto [stop, failure] = std::from_chars(number.data(), end, width);
    if (failure == std::errc::invalid_argument || stop != end) {
      refuse("has a width \"" + std::string(number) + "\" that is no whole number");
    }
    if (failure != std::errc() || width == 0 || width > Mlp::widest_layer) {
      refuse("has a width of " + std::string(number) + ", outside 1 to " +
             std::to_string(Mlp::widest_layer));
    }
    if (widths.size() == Mlp::most_hidden_layers) refuse("has too many layers");
    widths.push_back(width);
    if (number.size() == rest.size()) break;
    rest.remove_prefix(number.size() + 1);
  }
  return {features, widths, classes};
}

}  // namespace heddle

#include "heddle/train/model.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <numeric>
#include <string>
#include <thread>

#include "heddle/base/error.hpp"
#include "heddle/train/optimizer.hpp"
#include "heddle/train/random.hpp"
#include "heddle/train/sha256.hpp"

// Eigen allocates by malloc, so counting operator new would see nothing: this counts both. The
// sanitizers bring their own malloc.
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
    __has_feature(memory_sanitizer)
#define HEDDLE_FOREIGN_MALLOC
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HEDDLE_FOREIGN_MALLOC
#endif

namespace {
std::atomic<long> allocations{0};
}

#ifndef HEDDLE_FOREIGN_MALLOC
extern "C" {
// NOLINTBEGIN(bugprone-reserved-identifier, readability-identifier-naming): glibc's names
void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_memalign(std::size_t alignment, std::size_t size);
// NOLINTEND(bugprone-reserved-identifier, readability-identifier-naming)

void* malloc(std::size_t size) noexcept {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_malloc(size);
}
void* calloc(std::size_t count, std::size_t size) noexcept {  // GCC makes it of malloc and memset
  allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_calloc(count, size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept {
  allocations.fetch_add(1, std::memory_order_relaxed);
  return __libc_memalign(alignment, size);
}
}
#endif

namespace heddle {
namespace {

using Order = std::vector<std::uint32_t>;

Order first(std::size_t count) {
  Order order(count);
  std::iota(order.begin(), order.end(), 0U);
  return order;
}

Dataset random_data(std::size_t samples, std::size_t features, std::size_t classes) {
  Dataset data(samples, features, classes);
  Random random(5);
  for (std::size_t sample = 0; sample < samples; ++sample) {
    for (float& value : data.row(sample)) value = random.signed_unit();
    data.labels[sample] = random.below(static_cast<std::uint32_t>(classes));
  }
  return data;
}

AlignedFloats initial(const Mlp& model, std::uint64_t seed = 1) {
  AlignedFloats parameters(model.parameter_count());
  model.initialise(seed, parameters);
  return parameters;
}

// The loss by its definition, in double and without any of the model's code.
double reference_loss(const Mlp& model, std::span<const double> parameters, const Dataset& data,
                      std::span<const std::uint32_t> samples) {
  double loss = 0;
  for (const std::uint32_t sample : samples) {
    std::vector<double> input(data.row(sample).begin(), data.row(sample).end());
    for (const Mlp::Layer& layer : model.layers()) {
      std::vector<double> output(layer.out);
      for (std::size_t unit = 0; unit < layer.out; ++unit) {
        output[unit] = parameters[layer.biases + unit];
        for (std::size_t i = 0; i < layer.in; ++i) {
          output[unit] += input[i] * parameters[layer.weights + i * layer.stride + unit];
        }
        if (&layer != &model.layers().back()) output[unit] = std::max(output[unit], 0.0);
      }
      input = output;
    }
    double sum = 0;
    for (const double logit : input) sum += std::exp(logit);
    loss += std::log(sum) - input[data.labels[sample]];
  }
  return loss;
}

// Compares with the reference's central differences, at every `step`th parameter.
void check_gradient(const Mlp& model, std::size_t samples, std::size_t step) {
  const Dataset data = random_data(samples, model.features(), model.classes());
  const Order order = first(samples);
  AlignedFloats parameters = initial(model);
  for (const Mlp::Layer& layer : model.layers()) {  // biases of zero would hide their errors
    for (std::size_t i = 0; i < layer.out; ++i) parameters[layer.biases + i] = 0.01F * float(i % 7);
  }
  AlignedFloats gradient(parameters.size(), 99.0F);
  Mlp::Workspace workspace = model.make_workspace(samples);
  const double loss = model.loss_and_gradient(parameters, data, order, gradient, workspace);

  std::vector<double> moved(parameters.begin(), parameters.end());
  EXPECT_NEAR(loss, reference_loss(model, moved, data, order), 1e-5 * loss);
  const auto check = [&](std::size_t at) {
    constexpr double epsilon = 1e-6;
    const double value = moved[at];
    moved[at] = value + epsilon;
    const double above = reference_loss(model, moved, data, order);
    moved[at] = value - epsilon;
    const double below = reference_loss(model, moved, data, order);
    moved[at] = value;
    const double wanted = (above - below) / (2 * epsilon);
    EXPECT_NEAR(gradient[at], wanted, 2e-5 * std::max(1.0, std::abs(wanted))) << "parameter " << at;
  };
  std::size_t checked = 0;
  std::size_t number = 0;
  for (const Mlp::Layer& layer : model.layers()) {
    for (std::size_t i = 0; i < layer.in * layer.out; ++i) {
      if (++number % step) continue;
      check(layer.weights + i / layer.out * layer.stride + i % layer.out);
      ++checked;
    }
    for (std::size_t i = 0; i < layer.out; i += step) check(layer.biases + i);
  }
  EXPECT_GT(checked, 10U);
}

TEST(Mlp, softmax_gradient_is_the_derivative_of_the_loss) {
  check_gradient(parse_model("softmax", 5, 3), 7, 1);
}

TEST(Mlp, hidden_layers_gradient_is_the_derivative_of_the_loss) {
  check_gradient(parse_model("mlp:18", 5, 3), 7, 1);
  check_gradient(parse_model("mlp:7,18", 20, 4), 9, 1);
}

TEST(Mlp, gradient_is_right_where_layers_and_batch_take_several_tiles) {
  check_gradient(parse_model("mlp:150", 200, 3), 140, 1009);
  check_gradient(parse_model("mlp:270,140", 30, 3), 1, 1009);
}

TEST(Mlp, gradient_is_the_sum_over_the_samples) {
  const Mlp model = parse_model("mlp:16", 8, 3);
  const Dataset data = random_data(10, 8, 3);
  const AlignedFloats parameters = initial(model);
  AlignedFloats whole(parameters.size());
  AlignedFloats one(parameters.size());
  Mlp::Workspace workspace = model.make_workspace(10);
  double loss = model.loss_and_gradient(parameters, data, first(10), whole, workspace);
  for (const std::uint32_t sample : first(10)) {
    loss -= model.loss_and_gradient(parameters, data, {&sample, 1}, one, workspace);
    for (std::size_t i = 0; i < one.size(); ++i) whole[i] -= one[i];
  }
  EXPECT_NEAR(loss, 0, 1e-5);
  for (const float rest : whole) ASSERT_NEAR(rest, 0, 1e-5);
}

TEST(Mlp, no_samples_give_a_zero_gradient) {
  const Mlp model = parse_model("mlp:16", 8, 3);
  AlignedFloats gradient(model.parameter_count(), 5.0F);
  Mlp::Workspace workspace = model.make_workspace(1);
  const Dataset data = random_data(1, 8, 3);
  EXPECT_EQ(model.loss_and_gradient(initial(model), data, {}, gradient, workspace), 0);
  EXPECT_EQ(gradient, AlignedFloats(gradient.size()));
}

TEST(Mlp, same_bits_whatever_the_workspace_was_used_for) {  // MODEL-1
  const Mlp model = parse_model("mlp:50,20", 30, 5);
  const Dataset data = random_data(100, 30, 5);
  const AlignedFloats parameters = initial(model);
  const Order order = {3, 99, 4, 41, 59};
  AlignedFloats fresh_gradient(parameters.size());
  Mlp::Workspace fresh = model.make_workspace(5);
  const double loss = model.loss_and_gradient(parameters, data, order, fresh_gradient, fresh);

  AlignedFloats gradient(parameters.size(), -1.0F);
  Mlp::Workspace used = model.make_workspace(100);
  const AlignedFloats poison(parameters.size(), std::numeric_limits<float>::quiet_NaN());
  model.loss_and_gradient(poison, data, first(100), gradient, used);
  EXPECT_EQ(model.loss_and_gradient(parameters, data, order, gradient, used), loss);
  EXPECT_EQ(gradient, fresh_gradient);
}

TEST(Mlp, same_bits_whoever_computes_a_microbatch_and_when) {  // MODEL-1
  const Mlp model = parse_model("mlp:64", 64, 10);
  const Dataset data = load_digits().train;
  const AlignedFloats parameters = initial(model);
  constexpr std::size_t microbatches = 40;
  Order order(data.samples);
  permutation(1, 0, order);

  const auto compute = [&](std::size_t from, std::size_t to, std::vector<AlignedFloats>& out) {
    Mlp::Workspace workspace = model.make_workspace(8);
    while (from != to) {
      const std::size_t i = from < to ? from++ : --from;
      model.loss_and_gradient(parameters, data, std::span(order).subspan(i * 8, 8), out[i],
                              workspace);
    }
  };
  std::vector<AlignedFloats> alone(microbatches, AlignedFloats(parameters.size()));
  std::vector<AlignedFloats> shared = alone;
  compute(0, microbatches, alone);
  std::thread other([&] { compute(microbatches, microbatches / 3, shared); });  // backwards
  compute(0, microbatches / 3, shared);
  other.join();
  EXPECT_EQ(shared, alone);
}

TEST(Mlp, padding_stays_zero_through_training) {  // MODEL-2
  const Mlp model = parse_model("mlp:20,7", 5, 3);
  const Dataset data = random_data(12, 5, 3);
  const Sgd sgd(0.5F, 0.9F);
  AlignedFloats parameters = initial(model);
  AlignedFloats gradient(parameters.size());
  AlignedFloats state(sgd.state_count(parameters.size()));
  const AlignedFloats before = parameters;
  Mlp::Workspace workspace = model.make_workspace(12);
  for (int step = 0; step < 20; ++step) {
    model.loss_and_gradient(parameters, data, first(12), gradient, workspace);
    sgd.update(parameters, gradient, state, parameters, state, 1.0F / 12);
  }
  std::size_t padding = parameters.size();
  std::size_t changed = 0;
  std::vector<bool> used(parameters.size());
  for (const Mlp::Layer& layer : model.layers()) {
    EXPECT_EQ(layer.weights % aligned_floats, 0U);
    EXPECT_EQ(layer.biases % aligned_floats, 0U);
    for (std::size_t row = 0; row <= layer.in; ++row) {  // the biases are the last row
      for (std::size_t i = 0; i < layer.out; ++i) {
        const std::size_t at = layer.weights + row * layer.stride + i;
        used[at] = true;
        changed += parameters[at] != before[at];
      }
    }
  }
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    if (used[i]) {
      --padding;
    } else {
      ASSERT_EQ(parameters[i], 0) << i;
    }
  }
  EXPECT_EQ(padding, model.parameter_count() - model.weight_count());
  EXPECT_GT(padding, 0U);
  EXPECT_GT(changed, model.weight_count() / 2);  // it did train
}

TEST(Mlp, nothing_is_allocated_after_construction) {  // MODEL-3
#ifdef HEDDLE_FOREIGN_MALLOC
  GTEST_SKIP() << "malloc is the sanitizer's";
#endif
  for (const char* text : {"softmax", "mlp:64", "mlp:128,64", "mlp:700,300"}) {
    const Mlp model = parse_model(text, 64, 10);
    const Dataset data = load_digits().test;
    const AlignedFloats parameters = initial(model);
    AlignedFloats gradient(parameters.size());
    Mlp::Workspace workspace = model.make_workspace(200);
    Order classes(200);
    const Order order = first(200);
    const auto all = [&] {
      for (const std::size_t count : {1U, 8U, 64U, 200U}) {
        const std::span samples = std::span(order).first(count);
        model.loss_and_gradient(parameters, data, samples, gradient, workspace);
        model.predict(parameters, data, samples, std::span(classes).first(count), workspace);
      }
      model.evaluate(parameters, data, workspace);
    };
    all();  // Eigen asks for the sizes of the caches once
    const long before = allocations;
    all();
    EXPECT_EQ(allocations - before, 0) << text;
    const AlignedFloats counted(1);
    EXPECT_EQ(allocations - before, 1) << "allocations are not counted";
  }
}

TEST(Mlp, large_logits_overflow_nothing) {
  const Mlp model = parse_model("softmax", 8, 3);
  const Dataset data = random_data(20, 8, 3);
  AlignedFloats parameters = initial(model);
  for (float& parameter : parameters) parameter *= 1e6F;
  AlignedFloats gradient(parameters.size());
  Mlp::Workspace workspace = model.make_workspace(20);
  const double loss = model.loss_and_gradient(parameters, data, first(20), gradient, workspace);
  EXPECT_GT(loss, 1e5);
  EXPECT_TRUE(std::isfinite(loss));
  for (const float value : gradient) ASSERT_TRUE(std::isfinite(value));
}

TEST(Mlp, training_that_diverged_shows_in_the_loss) {
  const Mlp model = parse_model("mlp:16", 8, 3);
  const Dataset data = random_data(20, 8, 3);
  AlignedFloats parameters = initial(model);
  parameters[0] = std::numeric_limits<float>::quiet_NaN();  // below a rectifier
  AlignedFloats gradient(parameters.size());
  Mlp::Workspace workspace = model.make_workspace(20);
  EXPECT_TRUE(
      std::isnan(model.loss_and_gradient(parameters, data, first(20), gradient, workspace)));
  EXPECT_TRUE(std::isnan(model.evaluate(parameters, data, workspace).loss));
}

// The digest was computed by an own program in Python.
TEST(Mlp, initial_parameters_are_the_same_on_every_machine) {
  const Mlp model = parse_model("mlp:64", 64, 10);
  const AlignedFloats parameters = initial(model, 7);
  EXPECT_EQ(sha256_hex(std::as_bytes(std::span(parameters))),
            "a3209f8b3585e212ddc675b329fa283d00f5b4f91f07e3d28e521b7c7c320dfb");
  EXPECT_EQ(initial(model, 7), parameters);
  EXPECT_NE(initial(model, 8), parameters);

  double squares = 0;  // He: the variance is 2 / 64
  const auto weights = std::span(parameters).first(model.layers()[0].biases);
  for (const float weight : weights) squares += double{weight} * weight;
  EXPECT_NEAR(squares / (64 * 64), 2.0 / 64, 0.002);
}

TEST(Mlp, evaluation_counts_the_predictions_that_are_right) {
  const Mlp model = parse_model("mlp:16", 64, 10);
  const Dataset data = load_digits().test;
  const AlignedFloats parameters = initial(model);
  Mlp::Workspace large = model.make_workspace(data.samples);
  Mlp::Workspace small = model.make_workspace(7);
  Order classes(data.samples);
  model.predict(parameters, data, first(data.samples), classes, large);
  double right = 0;
  for (std::size_t i = 0; i < data.samples; ++i) right += classes[i] == data.labels[i];
  const std::vector<double> moved(parameters.begin(), parameters.end());
  const double loss = reference_loss(model, moved, data, first(data.samples)) / 360;
  for (Mlp::Workspace* workspace : {&large, &small}) {
    const Evaluation evaluation = model.evaluate(parameters, data, *workspace);
    EXPECT_DOUBLE_EQ(evaluation.accuracy, right / 360);
    EXPECT_NEAR(evaluation.loss, loss, 1e-5);
  }
}

TEST(Mlp, arguments_that_do_not_fit_are_refused) {
  const Mlp model = parse_model("softmax", 8, 3);
  const Mlp larger = parse_model("mlp:16", 8, 3);
  const Dataset data = random_data(4, 8, 3);
  const Dataset wider = random_data(4, 9, 3);
  Dataset mislabelled = data;
  mislabelled.labels[0] = 3;
  const Order order = first(3);
  const Order outside = {0, 1, 4};
  AlignedFloats parameters(model.parameter_count() + aligned_floats);
  AlignedFloats gradient(parameters.size());
  const std::size_t count = model.parameter_count();
  const std::span<float> good = std::span(parameters).first(count);
  const std::span<float> out = std::span(gradient).first(count);
  Mlp::Workspace workspace = model.make_workspace(3);
  Mlp::Workspace other = larger.make_workspace(3);

  const auto call = [&](std::span<const float> given, const Dataset& dataset, const Order& samples,
                        std::span<float> sum, Mlp::Workspace& scratch) {
    model.loss_and_gradient(given, dataset, samples, sum, scratch);
  };
  EXPECT_NO_THROW(call(good, data, order, out, workspace));
  EXPECT_THROW(call(good.first(count - 1), data, order, out, workspace), Error);
  EXPECT_THROW(call(std::span(parameters).subspan(1, count), data, order, out, workspace), Error);
  EXPECT_THROW(call(good, wider, order, out, workspace), Error);
  EXPECT_THROW(call(good, mislabelled, order, out, workspace), Error);
  try {  // and not because of whatever label stands there
    call(good, data, outside, out, workspace);
    ADD_FAILURE() << "a sample outside was taken";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "a sample is not in the data set");
  }
  EXPECT_THROW(call(good, data, first(4), out, workspace), Error);
  EXPECT_THROW(call(good, data, order, out.first(count - 1), workspace), Error);
  EXPECT_THROW(call(good, data, order, std::span(gradient).subspan(1, count), workspace), Error);
  EXPECT_THROW(call(good, data, order, out, other), Error);
  EXPECT_THROW(model.make_workspace(0), Error);
  EXPECT_THROW(model.initialise(1, parameters), Error);
}

TEST(ParseModel, each_form_gives_its_layers) {
  const auto widths = [](const char* text) {
    std::vector<std::size_t> units;
    const Mlp model = parse_model(text, 64, 10);
    for (const Mlp::Layer& layer : model.layers()) {
      units.insert(units.end(), {layer.in, layer.out});
    }
    return units;
  };
  using Units = std::vector<std::size_t>;
  EXPECT_EQ(widths("softmax"), (Units{64, 10}));
  EXPECT_EQ(widths("mlp:64"), (Units{64, 64, 64, 10}));
  EXPECT_EQ(widths("mlp:128,64"), (Units{64, 128, 128, 64, 64, 10}));
  EXPECT_EQ(widths("mlp:1,1,1,1,1,1,1,4096").size(), 18U);
  EXPECT_EQ(parse_model("mlp:64", 64, 10).weight_count(), 65U * 64 + 65 * 10);
}

TEST(ParseModel, a_bad_text_is_refused_with_what_is_wrong) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "is unknown"},
      {"Softmax", "is unknown"},
      {"softmax ", "is unknown"},
      {"mlp", "is unknown"},
      {"mlp:", "a width \"\" that is no whole number"},
      {"mlp:64,", "a width \"\" that is no whole number"},
      {"mlp:,64", "a width \"\" that is no whole number"},
      {"mlp:6x", "a width \"6x\" that is no whole number"},
      {"mlp:-1", "a width \"-1\" that is no whole number"},
      {"mlp:1.5", "a width \"1.5\" that is no whole number"},
      {"mlp:64 ", "a width \"64 \" that is no whole number"},
      {"mlp:0", "a width of 0, outside 1 to 4096"},
      {"mlp:4097", "a width of 4097, outside 1 to 4096"},
      {"mlp:99999999999999999999", "a width of 99999999999999999999, outside 1 to 4096"},
      {"mlp:1,2,3,4,5,6,7,8,9", "has too many layers"},
  };
  for (const auto& [text, why] : cases) {
    try {
      parse_model(text, 64, 10);
      ADD_FAILURE() << text << " was taken";
    } catch (const Error& error) {
      const std::string message = error.what();
      EXPECT_EQ(error.code(), Errc::invalid_argument);
      EXPECT_NE(message.find("model \"" + text + "\""), std::string::npos) << message;
      EXPECT_NE(message.find(why), std::string::npos) << message;
      EXPECT_NE(message.find("mlp:128,64"), std::string::npos) << message;
    }
  }
}

TEST(ParseModel, impossible_data_are_refused) {
  EXPECT_THROW(parse_model("softmax", 0, 10), Error);
  EXPECT_THROW(parse_model("softmax", static_cast<std::size_t>(-1), 10), Error);
  EXPECT_THROW(parse_model("softmax", 64, 1), Error);
  EXPECT_THROW(parse_model("softmax", 64, static_cast<std::size_t>(-1)), Error);
}

// One process, batches of 64: the share of the digits that a trainer must reach.
double trained_accuracy(const char* text, const Sgd& sgd, std::uint64_t seed, int epochs) {
  const SplitData data = load_digits();
  const Mlp model = parse_model(text, data.train.features, data.train.classes);
  AlignedFloats parameters = initial(model, seed);
  AlignedFloats gradient(parameters.size());
  AlignedFloats state(sgd.state_count(parameters.size()));
  Mlp::Workspace workspace = model.make_workspace(64);
  Order order(data.train.samples);
  for (int epoch = 0; epoch < epochs; ++epoch) {
    permutation(seed, static_cast<std::uint64_t>(epoch), order);
    for (std::size_t at = 0; at < order.size(); at += 64) {
      const auto batch = std::span(order).subspan(at, std::min<std::size_t>(64, order.size() - at));
      model.loss_and_gradient(parameters, data.train, batch, gradient, workspace);
      sgd.update(parameters, gradient, state, parameters, state,
                 1.0F / static_cast<float>(batch.size()));
    }
  }
  return model.evaluate(parameters, data.test, workspace).accuracy;
}

TEST(Mlp, softmax_learns_the_digits) {
  for (const std::uint64_t seed : {0U, 1U}) {
    EXPECT_GE(trained_accuracy("softmax", Sgd(0.1F, 0.9F), seed, 20), 0.945) << seed;
  }
}

TEST(Mlp, one_hidden_layer_learns_the_digits) {
  for (const std::uint64_t seed : {0U, 1U}) {
    EXPECT_GE(trained_accuracy("mlp:64", Sgd(0.1F, 0.9F), seed, 20), 0.955) << seed;
  }
  EXPECT_GE(trained_accuracy("mlp:64", Sgd(0.5F), 0, 40), 0.95);
}

TEST(Mlp, two_hidden_layers_learn_the_digits) {
  EXPECT_GE(trained_accuracy("mlp:128,64", Sgd(0.1F, 0.9F), 0, 15), 0.96);
}

}  // namespace
}  // namespace heddle

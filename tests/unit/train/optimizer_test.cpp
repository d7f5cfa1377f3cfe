#include "heddle/train/optimizer.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "heddle/base/error.hpp"
#include "heddle/train/aligned.hpp"
#include "heddle/train/random.hpp"

namespace heddle {
namespace {

struct Step {
  explicit Step(std::size_t count) : parameters(count), gradient(count), state(count) {
    Random random(3);
    for (auto* array : {&parameters, &gradient, &state}) {
      std::generate(array->begin(), array->end(), [&] { return random.signed_unit(); });
    }
  }
  AlignedFloats parameters;
  AlignedFloats gradient;
  AlignedFloats state;
};

TEST(Sgd, two_steps_by_hand) {
  const Sgd sgd(0.5F, 0.25F);
  const std::vector<float> gradient = {4.0F, -8.0F};
  std::vector<float> parameters = {1.0F, 2.0F};
  std::vector<float> state = {0.0F, 0.0F};
  sgd.update(parameters, gradient, state, parameters, state, 0.5F);
  EXPECT_EQ(state, (std::vector<float>{2.0F, -4.0F}));
  EXPECT_EQ(parameters, (std::vector<float>{0.0F, 4.0F}));
  sgd.update(parameters, gradient, state, parameters, state, 0.5F);
  EXPECT_EQ(state, (std::vector<float>{2.5F, -5.0F}));
  EXPECT_EQ(parameters, (std::vector<float>{-1.25F, 6.5F}));
}

TEST(Sgd, without_momentum_there_is_no_state) {
  const Sgd sgd(0.5F);
  EXPECT_EQ(sgd.state_count(100), 0U);
  const std::vector<float> parameters = {1.0F, 2.0F};
  const std::vector<float> gradient = {4.0F, -8.0F};
  std::vector<float> next(2);
  sgd.update(parameters, gradient, {}, next, {}, 0.5F);
  EXPECT_EQ(next, (std::vector<float>{0.0F, 4.0F}));
}

TEST(Sgd, any_cut_into_stripes_gives_the_same_bits) {  // OPT-1
  constexpr std::size_t count = 203;
  const Step step(count);
  for (const float momentum : {0.0F, 0.9F}) {
    const Sgd sgd(0.1F, momentum);
    const std::size_t state_count = sgd.state_count(count);
    const std::span<const float> state = std::span(step.state).first(state_count);
    std::vector<float> whole(count);
    std::vector<float> whole_state(state_count);
    sgd.update(step.parameters, step.gradient, state, whole, whole_state, 1.0F / 3);
    for (std::size_t stripe = 1; stripe < count; ++stripe) {
      std::vector<float> next(count);
      std::vector<float> next_state(state_count);
      for (std::size_t at = 0; at < count; at += stripe) {
        const std::size_t size = std::min(stripe, count - at);
        const std::size_t state_at = sgd.state_count(at);
        const std::size_t state_size = sgd.state_count(size);
        sgd.update(std::span(step.parameters).subspan(at, size),
                   std::span(step.gradient).subspan(at, size), state.subspan(state_at, state_size),
                   std::span(next).subspan(at, size),
                   std::span(next_state).subspan(state_at, state_size), 1.0F / 3);
      }
      ASSERT_EQ(next, whole) << "stripes of " << stripe << ", momentum " << momentum;
      ASSERT_EQ(next_state, whole_state) << "stripes of " << stripe;
    }
  }
}

TEST(Sgd, in_place_gives_the_same_bits_and_out_of_place_leaves_the_inputs) {  // OPT-2
  const Step step(100);
  const Step before = step;
  const Sgd sgd(0.1F, 0.9F);
  AlignedFloats next(100);
  AlignedFloats next_state(100);
  sgd.update(step.parameters, step.gradient, step.state, next, next_state, 0.1F);
  EXPECT_EQ(step.parameters, before.parameters);
  EXPECT_EQ(step.gradient, before.gradient);
  EXPECT_EQ(step.state, before.state);

  Step in_place = step;
  sgd.update(in_place.parameters, in_place.gradient, in_place.state, in_place.parameters,
             in_place.state, 0.1F);
  EXPECT_EQ(in_place.parameters, next);
  EXPECT_EQ(in_place.state, next_state);
}

TEST(Sgd, zeroes_stay_zeroes) {  // OPT-3: the padding of a model's rows
  const Sgd sgd(0.1F, 0.9F);
  const std::vector<float> zeroes(5);
  std::vector<float> parameters(5, 1.0F);
  std::vector<float> state(5, 1.0F);
  sgd.update(zeroes, zeroes, zeroes, parameters, state, 0.5F);
  EXPECT_EQ(parameters, zeroes);
  EXPECT_EQ(state, zeroes);
}

TEST(Sgd, impossible_values_are_refused) {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  constexpr float infinity = std::numeric_limits<float>::infinity();
  for (const float rate : {0.0F, -0.1F, nan, infinity}) EXPECT_THROW(Sgd{rate}, Error) << rate;
  for (const float momentum : {-0.1F, 1.0F, nan}) {
    EXPECT_THROW(Sgd(0.1F, momentum), Error) << momentum;
  }
}

TEST(Sgd, arrays_of_different_sizes_are_refused) {
  std::vector<float> two(2);
  std::vector<float> three(3);
  const Sgd plain(0.1F);
  const Sgd momentum(0.1F, 0.9F);
  EXPECT_THROW(plain.update(two, three, {}, two, {}, 1), Error);
  EXPECT_THROW(plain.update(two, two, {}, three, {}, 1), Error);
  EXPECT_THROW(plain.update(two, two, two, two, two, 1), Error);
  EXPECT_THROW(momentum.update(two, two, {}, two, two, 1), Error);
  EXPECT_THROW(momentum.update(two, two, two, two, three, 1), Error);
  EXPECT_NO_THROW(momentum.update(two, two, two, two, two, 1));
}

}  // namespace
}  // namespace heddle

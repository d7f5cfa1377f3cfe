#include "heddle/sync/reduce.hpp"

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

namespace heddle {
namespace {

constexpr std::array reductions{Reduction::sum, Reduction::mean, Reduction::min, Reduction::max,
                                Reduction::product};

std::vector<Vectors> all_vectors() {
  std::vector<Vectors> all{Vectors::portable};
  if (widest_vectors() >= Vectors::avx2) all.push_back(Vectors::avx2);
  if (widest_vectors() >= Vectors::avx512) all.push_back(Vectors::avx512);
  return all;
}

template <class T>
constexpr bool is_half = std::is_same_v<T, bfloat16> || std::is_same_v<T, float16>;
template <class T>
using Sum = std::conditional_t<is_half<T>, float, T>;

// What the header says, word for word. volatile: each operation is rounded by itself.
template <class T>
T plainly(Reduction reduction, const std::vector<T>& values) {
  volatile Sum<T> sum = static_cast<Sum<T>>(values[0]);
  for (std::size_t k = 1; k < values.size(); ++k) {
    const auto a = static_cast<Sum<T>>(sum);
    const auto b = static_cast<Sum<T>>(values[k]);
    if (reduction == Reduction::min) {
      sum = b < a ? b : a;
    } else if (reduction == Reduction::max) {
      sum = a < b ? b : a;
    } else if constexpr (std::is_integral_v<T>) {
      using U = std::make_unsigned_t<T>;
      const auto x = static_cast<U>(a), y = static_cast<U>(b);
      sum = static_cast<T>(reduction == Reduction::product ? x * y : x + y);
    } else {
      sum = reduction == Reduction::product ? a * b : a + b;
    }
  }
  if (reduction == Reduction::mean) sum = sum / static_cast<Sum<T>>(values.size());
  return static_cast<T>(static_cast<Sum<T>>(sum));
}

template <class T>
T any(std::mt19937_64& random) {
  if constexpr (std::is_integral_v<T>) {
    return static_cast<T>(random());
  } else {
    constexpr std::array<float, 7> special{0.0F,
                                           -0.0F,
                                           std::numeric_limits<float>::infinity(),
                                           -std::numeric_limits<float>::infinity(),
                                           1e-40F,
                                           3e38F,
                                           1.0F};
    if (random() % 16 == 0) return static_cast<T>(special[random() % special.size()]);
    const double value = std::ldexp(static_cast<double>(random() >> 11), -53) - 0.5;
    return static_cast<T>(static_cast<Sum<T>>(value * static_cast<double>(random() % 100)));
  }
}

// A NaN's own bits may depend on the order in which the compiler writes an addition.
template <class T>
bool same(T a, T b) {
  if (std::memcmp(&a, &b, sizeof(T)) == 0) return true;
  if constexpr (std::is_integral_v<T>) return false;
  return std::isnan(static_cast<double>(static_cast<Sum<T>>(a))) &&
         std::isnan(static_cast<double>(static_cast<Sum<T>>(b)));
}

// `count` numbers somewhere in memory, aligned as a T must be and no better.
template <class T>
class Numbers {
 public:
  Numbers(std::size_t count, std::size_t shift) : memory_(count + 17), shift_(shift % 17) {}
  T* data() { return memory_.data() + shift_; }

 private:
  std::vector<T> memory_;
  std::size_t shift_;
};

template <class T>
class Reduce : public testing::Test {};
using Types = testing::Types<float, double, std::int32_t, std::int64_t, bfloat16, float16>;
TYPED_TEST_SUITE(Reduce, Types);

TYPED_TEST(Reduce, is_a_plain_loop_in_the_order_of_the_inputs) {
  using T = TypeParam;
  std::mt19937_64 random(7);
  for (const std::size_t count : {0UL, 1UL, 3UL, 17UL, 64UL, 511UL, 512UL, 513UL, 1237UL}) {
    for (std::size_t inputs = 1; inputs <= 5; ++inputs) {
      std::vector<Numbers<T>> numbers;
      std::vector<const void*> in;
      for (std::size_t k = 0; k < inputs; ++k) {
        numbers.emplace_back(count, random());
        for (std::size_t i = 0; i < count; ++i) numbers.back().data()[i] = any<T>(random);
      }
      for (auto& one : numbers) in.push_back(one.data());
      for (const Reduction reduction : reductions) {
        for (const Vectors vectors : all_vectors()) {
          Numbers<T> out(count + 1, random());
          const T fence = any<T>(random);
          out.data()[count] = fence;
          reduce(number_type<T>(), reduction, out.data(), in, count, vectors);
          EXPECT_TRUE(same(out.data()[count], fence)) << "written beyond the end";
          for (std::size_t i = 0; i < count; ++i) {
            std::vector<T> values;
            for (auto& one : numbers) values.push_back(one.data()[i]);
            ASSERT_TRUE(same(out.data()[i], plainly(reduction, values)))
                << "element " << i << " of " << count << ", " << inputs << " inputs, reduction "
                << static_cast<int>(reduction) << ", vectors " << static_cast<int>(vectors);
          }
        }
      }
    }
  }
}

TYPED_TEST(Reduce, in_place_of_any_input) {
  using T = TypeParam;
  std::mt19937_64 random(8);
  constexpr std::size_t count = 1003;
  for (std::size_t place = 0; place < 3; ++place) {
    for (const Reduction reduction : reductions) {
      std::vector<std::vector<T>> numbers(3, std::vector<T>(count));
      for (auto& one : numbers) {
        for (T& number : one) number = any<T>(random);
      }
      const auto before = numbers;
      const std::array<const void*, 3> in{numbers[0].data(), numbers[1].data(), numbers[2].data()};
      reduce(number_type<T>(), reduction, numbers[place].data(), in, count);
      for (std::size_t i = 0; i < count; ++i) {
        ASSERT_TRUE(same(numbers[place][i],
                         plainly(reduction, std::vector{before[0][i], before[1][i], before[2][i]})))
            << "element " << i;
      }
    }
  }
}

// Whoever does which part: COLL-1 rests on it.
TYPED_TEST(Reduce, gives_the_same_bits_wherever_it_is_cut) {
  using T = TypeParam;
  std::mt19937_64 random(9);
  constexpr std::size_t count = 2000;
  std::vector<std::vector<T>> numbers(3, std::vector<T>(count));
  for (auto& one : numbers) {
    for (T& number : one) number = any<T>(random);
  }
  std::vector<T> whole(count), parts(count);
  const std::array<const void*, 3> in{numbers[0].data(), numbers[1].data(), numbers[2].data()};
  reduce(number_type<T>(), Reduction::mean, whole.data(), in, count);
  for (std::size_t from = 0; from < count;) {
    const std::size_t size = std::min<std::size_t>(1 + random() % 97, count - from);
    const std::array<const void*, 3> part{&numbers[0][from], &numbers[1][from], &numbers[2][from]};
    reduce(number_type<T>(), Reduction::mean, &parts[from], part, size);
    from += size;
  }
  for (std::size_t i = 0; i < count; ++i) ASSERT_TRUE(same(whole[i], parts[i])) << i;
}

TEST(Bfloat16, rounds_to_nearest_even) {
  const auto bits = [](std::uint32_t word) { return bfloat16(std::bit_cast<float>(word)).bits; };
  EXPECT_EQ(bits(0x3f800000), 0x3f80);  // 1
  EXPECT_EQ(bits(0x3f807fff), 0x3f80);
  EXPECT_EQ(bits(0x3f808000), 0x3f80) << "halfway, to the even one below";
  EXPECT_EQ(bits(0x3f808001), 0x3f81);
  EXPECT_EQ(bits(0x3f818000), 0x3f82) << "halfway, to the even one above";
  EXPECT_EQ(bits(0x7f7fffff), 0x7f80) << "the largest float is infinity";
  EXPECT_EQ(bits(0xff800000), 0xff80);
  EXPECT_EQ(bits(0x80000000), 0x8000);
  EXPECT_TRUE(std::isnan(static_cast<float>(bfloat16(std::bit_cast<float>(0x7f800001U)))))
      << "a NaN whose bits are all below stays one";
  for (std::uint32_t all = 0; all < 1U << 16; ++all) {
    bfloat16 number;
    number.bits = static_cast<std::uint16_t>(all);
    const auto value = static_cast<float>(number);
    if (!std::isnan(value)) {
      ASSERT_EQ(bfloat16(value), number) << all;
    }
  }
}

TEST(Float16, rounds_to_nearest_even) {
  EXPECT_EQ(float16(1.0F).bits, 0x3c00);
  EXPECT_EQ(float16(1.0F + 0x1p-11F).bits, 0x3c00) << "halfway, to the even one below";
  EXPECT_EQ(float16(1.0F + 0x3p-11F).bits, 0x3c02) << "halfway, to the even one above";
  EXPECT_EQ(float16(65504.0F).bits, 0x7bff);
  EXPECT_EQ(float16(65519.996F).bits, 0x7bff);
  EXPECT_EQ(float16(65520.0F).bits, 0x7c00);
  EXPECT_EQ(float16(0x1p-24F).bits, 1) << "the least one";
  EXPECT_EQ(float16(0x1p-25F).bits, 0);
  EXPECT_EQ(float16(-0.0F).bits, 0x8000);
  for (std::uint32_t all = 0; all < 1U << 16; ++all) {
    float16 number;
    number.bits = static_cast<std::uint16_t>(all);
    const auto value = static_cast<float>(number);
    if (!std::isnan(value)) {
      ASSERT_EQ(float16(value), number) << all;
    }
  }
}

// Ten times 1/256 beside 1: each lost by itself in a bfloat16, not in the float that they are added
// up in. And 65504 + 65504 - 65504 goes beyond a float16 in between.
TEST(Reduce16, adds_up_as_float_and_rounds_once) {
  std::vector<bfloat16> one{bfloat16(1.0F)}, little{bfloat16(1.0F / 256)};
  std::vector<const void*> in{one.data()};
  for (int i = 0; i < 10; ++i) in.push_back(little.data());
  bfloat16 sum;
  reduce(NumberType::bfloat16, Reduction::sum, &sum, in, 1);
  EXPECT_EQ(static_cast<float>(sum), static_cast<float>(bfloat16(1.0F + 10.0F / 256)));

  const float16 large(65504.0F), minus(-65504.0F);
  const std::array<const void*, 3> halves{&large, &large, &minus};
  float16 half;
  reduce(NumberType::float16, Reduction::sum, &half, halves, 1);
  EXPECT_EQ(half, large);
}

TEST(ReduceIntegers, wrap_and_are_divided_towards_zero) {
  const std::int32_t most = std::numeric_limits<std::int32_t>::max(), one = 1, minus = -4;
  const std::array<const void*, 2> over{&most, &one};
  std::int32_t out = 0;
  reduce(NumberType::int32, Reduction::sum, &out, over, 1);
  EXPECT_EQ(out, std::numeric_limits<std::int32_t>::min());
  const std::array<const void*, 2> odd{&minus, &one};
  reduce(NumberType::int32, Reduction::mean, &out, odd, 1);
  EXPECT_EQ(out, -1);
}

// One NaN among numbers, and in min and max what the comparison leaves: the first, unless the second
// is less.
TEST(ReduceFloats, treat_a_nan_as_the_comparison_does) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), one = 1;
  for (const Vectors vectors : all_vectors()) {
    std::vector<float> nans(40, nan), ones(40, one), out(40);
    const std::array<const void*, 2> nan_first{nans.data(), ones.data()};
    const std::array<const void*, 2> nan_second{ones.data(), nans.data()};
    reduce(NumberType::float32, Reduction::min, out.data(), nan_first, 40, vectors);
    for (const float value : out) EXPECT_TRUE(std::isnan(value));
    reduce(NumberType::float32, Reduction::max, out.data(), nan_second, 40, vectors);
    for (const float value : out) EXPECT_EQ(value, one);
    reduce(NumberType::float32, Reduction::sum, out.data(), nan_second, 40, vectors);
    for (const float value : out) EXPECT_TRUE(std::isnan(value));
  }
}

}  // namespace
}  // namespace heddle

#pragma once

// Reductions: the arithmetic of collectives. out[i] = in[0][i] op in[1][i] op ... in that order, for
// any number of inputs, so that whoever does it for whichever part gets the same bits.
//
// Who may call    anyone, on memory that nobody else writes meanwhile. `out` may be one of the inputs;
//                 else they do not overlap
// Progress        wait-free, no allocation, no system call
// The same bits   whatever the processor: its widest vectors are used (found out once), and they do
//                 each element's operations in the same order, each rounded by itself (no fused
//                 multiply-add). bfloat16 and float16 are added up as float and rounded once, to
//                 nearest even. mean is the sum, divided by the number of inputs; of integers towards
//                 zero. min and max of a NaN: whichever the comparison a < b leaves
// Overflow        of integers wraps

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

namespace heddle {

enum class Reduction : std::uint8_t { sum, mean, min, max, product };

/// The upper half of a float.
struct bfloat16 {
  std::uint16_t bits = 0;

  bfloat16() = default;
  explicit bfloat16(float value) noexcept : bits(from(value)) {}
  explicit operator float() const noexcept {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
  }
  friend bool operator==(bfloat16, bfloat16) = default;

 private:
  static std::uint16_t from(float value) noexcept {
    const auto word = std::bit_cast<std::uint32_t>(value);
    if ((word & 0x7fffffff) > 0x7f800000) return static_cast<std::uint16_t>(word >> 16 | 0x40);
    return static_cast<std::uint16_t>((word + 0x7fff + (word >> 16 & 1)) >> 16);
  }
};

/// IEEE's half. Its conversions round to nearest even; they are written out, since not every compiler
/// has the type, and without branches, for vectors.
struct float16 {
  std::uint16_t bits = 0;

  float16() = default;
  explicit float16(float value) noexcept : bits(from(value)) {}
  explicit operator float() const noexcept {
    const std::uint32_t size = (bits & 0x7fffU) << 13;
    const float number = std::bit_cast<float>(size) * 0x1p112F;         // the exponent's other bias
    const std::uint32_t whole = size >= 0x0f800000 ? size + 0x70000000  // infinite, or not a number
                                                   : std::bit_cast<std::uint32_t>(number);
    return std::bit_cast<float>((bits & 0x8000U) << 16 | whole);
  }
  friend bool operator==(float16, float16) = default;

 private:
  static std::uint16_t from(float value) noexcept {
    const auto word = std::bit_cast<std::uint32_t>(value);
    const std::uint32_t size = word & 0x7fffffff;
    const std::uint32_t normal = (size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13;
    // Less than the least normal one: this addition rounds at its last bit.
    const std::uint32_t little =
        std::bit_cast<std::uint32_t>(std::bit_cast<float>(size) + 0.5F) - 0x3f000000;
    const std::uint32_t nan = 0x7e00 | (size >> 13 & 0x3ff);
    const std::uint32_t large = size > 0x7f800000 ? nan : 0x7c00;  // from 65,536 on
    const std::uint32_t finite = size < 0x38800000 ? little : normal;
    return static_cast<std::uint16_t>((word >> 16 & 0x8000) |
                                      (size >= 0x47800000 ? large : finite));
  }
};

/// Stored in shared memory: never renumber.
enum class NumberType : std::uint8_t { float32, float64, int32, int64, bfloat16, float16, bytes };

constexpr std::size_t size_of(NumberType type) noexcept {
  switch (type) {
    case NumberType::float64:
    case NumberType::int64:
      return 8;
    case NumberType::float32:
    case NumberType::int32:
      return 4;
    case NumberType::bfloat16:
    case NumberType::float16:
      return 2;
    case NumberType::bytes:
      break;
  }
  return 1;
}

template <class T>
concept Number =
    std::same_as<T, float> || std::same_as<T, double> || std::same_as<T, std::int32_t> ||
    std::same_as<T, std::int64_t> || std::same_as<T, bfloat16> || std::same_as<T, float16>;

template <Number T>
constexpr NumberType number_type() {
  if constexpr (std::same_as<T, float>) return NumberType::float32;
  if constexpr (std::same_as<T, double>) return NumberType::float64;
  if constexpr (std::same_as<T, std::int32_t>) return NumberType::int32;
  if constexpr (std::same_as<T, std::int64_t>) return NumberType::int64;
  if constexpr (std::same_as<T, bfloat16>) return NumberType::bfloat16;
  if constexpr (std::same_as<T, float16>) return NumberType::float16;
}

/// out[0 .. count) of `type`; each input has as many. `type` is not `bytes`.
void reduce(NumberType type, Reduction reduction, void* out, std::span<const void* const> in,
            std::size_t count) noexcept;

/// What it is compiled for.
enum class Vectors : std::uint8_t { portable, avx2, avx512 };
Vectors widest_vectors() noexcept;  ///< of this processor
/// With those of a chosen width, which the processor must have: to compare them.
void reduce(NumberType type, Reduction reduction, void* out, std::span<const void* const> in,
            std::size_t count, Vectors vectors) noexcept;

}  // namespace heddle

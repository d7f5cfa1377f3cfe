#pragma once

// Random: the same numbers on every machine, compiler and library.
//
// std::shuffle and the standard's distributions may differ between libraries; a run that can be
// repeated bit for bit cannot use them.
// Source          SplitMix64: Steele, Lea, Flood 2014, "Fast splittable pseudorandom number
//                 generators"; below(): Lemire 2019, "Fast random integer generation in an interval"

#include <cstdint>

namespace heddle {

class Random {
 public:
  /// What the numbers are for. Draws for one purpose tell nothing about those for another.
  enum class Purpose : std::uint64_t { shuffle = 1, initialise = 2 };

  explicit constexpr Random(std::uint64_t seed) noexcept : state_(seed) {}
  /// The stream `index` of a seed: an epoch, a layer.
  constexpr Random(std::uint64_t seed, Purpose purpose, std::uint64_t index) noexcept
      : state_(mix(mix(mix(seed + step) ^ static_cast<std::uint64_t>(purpose)) ^ index)) {}

  constexpr std::uint64_t next() noexcept { return mix(state_ += step); }

  /// Evenly from 0 to bound - 1; bound is not 0.
  constexpr std::uint32_t below(std::uint32_t bound) noexcept {
    // The draw is the high half of random x bound. Of the 2^32 low halves, 2^32 mod bound are too
    // many for an even share; those are drawn again.
    const std::uint32_t surplus = (0 - bound) % bound;
    for (;;) {
      const std::uint64_t product = (next() >> 32) * bound;
      if (static_cast<std::uint32_t>(product) >= surplus) {
        return static_cast<std::uint32_t>(product >> 32);
      }
    }
  }

  /// Evenly from -1 (included) to 1 (excluded), in steps of 2^-23.
  constexpr float signed_unit() noexcept {
    return static_cast<float>(next() >> 40) * 0x1p-23F - 1.0F;
  }

 private:
  static constexpr std::uint64_t step = 0x9e3779b97f4a7c15;

  static constexpr std::uint64_t mix(std::uint64_t z) noexcept {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }

  std::uint64_t state_;
};

}  // namespace heddle

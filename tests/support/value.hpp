#pragma once

#include <array>
#include <cstdint>

namespace heddle::test {

/// Whole only if its words follow from its number. Small, so that an operation on it is short.
struct Value {
  static Value of(std::uint64_t number) { return {number, {number * 3, number * 5, ~number}}; }
  bool whole() const { return rest == of(number).rest; }
  std::uint64_t number;
  std::array<std::uint64_t, 3> rest;
};

}  // namespace heddle::test

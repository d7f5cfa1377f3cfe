#pragma once

// What the ranks bring to a collective, and what it must make of it: by plain loops, and not by the
// code that is measured. Every rank can say what every other one has brought.
//
// The numbers come again after 1,021 elements, so that to fill and to compare costs little more than
// to copy. 1,021 is a prime: parts, stripes and chunks that lie at a wrong place are seen.

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <type_traits>
#include <vector>

#include "heddle/sync/reduce.hpp"

namespace heddle {

template <Number T>
class CollectiveNumbers {
 public:
  /// The largest index that is asked for is below `longest`.
  CollectiveNumbers(std::uint32_t ranks, std::size_t longest)
      : used_(std::min(period, longest)),
        brought_(ranks, std::vector<T>(period)),
        reduced_(period) {}

  /// Others for each cycle.
  void draw(std::uint64_t cycle) {
    for (std::size_t rank = 0; rank < brought_.size(); ++rank) {
      for (std::size_t i = 0; i < used_; ++i) brought_[rank][i] = number(cycle, rank, i);
    }
  }

  /// What so many calls in place make of them: the first one has what the ranks have brought, the
  /// others the result of the one before, from each rank.
  void reduce(Reduction reduction, std::uint64_t calls) {
    std::vector<T> column(brought_.size());
    for (std::size_t i = 0; i < used_; ++i) {
      for (std::size_t rank = 0; rank < column.size(); ++rank) column[rank] = brought_[rank][i];
      for (std::uint64_t call = 0; call < calls; ++call) {
        reduced_[i] = combined(reduction, column);
        std::fill(column.begin(), column.end(), reduced_[i]);
      }
    }
  }

  /// What `rank` brings, from element `from` of its buffer on.
  void fill(std::span<T> to, std::size_t rank, std::size_t from) const {
    by_pieces(to.size(), from, [&](std::size_t at, std::size_t index, std::size_t count) {
      std::memcpy(to.data() + at, brought_[rank].data() + index, count * sizeof(T));
    });
  }

  struct Wrong {
    std::size_t at;
    T expected;
  };
  /// The first of `got` that is not, bit by bit, what `rank` has brought from its element `from` on.
  std::optional<Wrong> compare(std::span<const T> got, std::size_t rank, std::size_t from) const {
    return compare(got, brought_[rank], from);
  }
  /// The same of what all was reduced to.
  std::optional<Wrong> compare_reduced(std::span<const T> got, std::size_t from) const {
    return compare(got, reduced_, from);
  }

 private:
  static constexpr std::size_t period = 1021;

  template <class Piece>
  static void by_pieces(std::size_t size, std::size_t from, Piece&& piece) {
    for (std::size_t at = 0; at < size;) {
      const std::size_t index = (from + at) % period;
      const std::size_t count = std::min(period - index, size - at);
      piece(at, index, count);
      at += count;
    }
  }

  std::optional<Wrong> compare(std::span<const T> got, const std::vector<T>& table,
                               std::size_t from) const {
    std::optional<Wrong> wrong;
    by_pieces(got.size(), from, [&](std::size_t at, std::size_t index, std::size_t count) {
      const auto its = std::as_bytes(got.subspan(at, count));
      const auto right = std::as_bytes(std::span<const T>(table).subspan(index, count));
      if (wrong || std::memcmp(its.data(), right.data(), its.size()) == 0) return;
      const auto first = std::mismatch(its.begin(), its.end(), right.begin()).first;
      const std::size_t i = static_cast<std::size_t>(first - its.begin()) / sizeof(T);
      wrong = Wrong{at + i, table[index + i]};
    });
    return wrong;
  }

  // Of floating point: 0.5 to 2, of either sign, with all bits of the mantissa in use. So a sum is
  // rounded, and a product of many does not run away.
  static T number(std::uint64_t cycle, std::uint64_t rank, std::uint64_t i) {
    std::uint64_t bits = ((cycle * 64 + rank) * period + i + 1) * 0x9e3779b97f4a7c15;
    bits = (bits ^ bits >> 32) * 0xd6e8feb86659fd93;
    bits ^= bits >> 32;
    constexpr std::uint64_t sign = std::uint64_t{1} << 63;
    if constexpr (std::is_integral_v<T>) {
      return static_cast<T>(bits);
    } else if constexpr (std::is_same_v<T, double>) {
      constexpr std::uint64_t mantissa = (std::uint64_t{1} << 53) - 1;  // and exponent's last bit
      return std::bit_cast<double>((bits & (sign | mantissa)) | std::uint64_t{0x3fe} << 52);
    } else {
      constexpr std::uint32_t mantissa = (std::uint32_t{1} << 24) - 1;
      const auto upper = static_cast<std::uint32_t>(bits >> 32);
      return static_cast<T>(std::bit_cast<float>((upper & (0x80000000U | mantissa)) | 0x3f000000U));
    }
  }

  // In the order of the ranks; reduce.hpp has the rules.
  static T combined(Reduction reduction, const std::vector<T>& column) {
    if constexpr (std::is_integral_v<T>) {
      using Wraps = std::make_unsigned_t<T>;
      return in_order<T>(
          reduction, column,
          [](T a, T b) { return static_cast<T>(static_cast<Wraps>(a) + static_cast<Wraps>(b)); },
          [](T a, T b) { return static_cast<T>(static_cast<Wraps>(a) * static_cast<Wraps>(b)); });
    } else {
      using Sum = std::conditional_t<sizeof(T) == 2, float, T>;
      return in_order<Sum>(
          reduction, column, [](Sum a, Sum b) { return a + b; },
          [](Sum a, Sum b) { return a * b; });
    }
  }

  template <class Sum, class Plus, class Times>
  static T in_order(Reduction reduction, const std::vector<T>& column, Plus plus, Times times) {
    Sum result = static_cast<Sum>(column[0]);
    for (std::size_t rank = 1; rank < column.size(); ++rank) {
      const Sum next = static_cast<Sum>(column[rank]);
      switch (reduction) {
        case Reduction::sum:
        case Reduction::mean:
          result = plus(result, next);
          break;
        case Reduction::min:
          result = next < result ? next : result;
          break;
        case Reduction::max:
          result = result < next ? next : result;
          break;
        case Reduction::product:
          result = times(result, next);
          break;
      }
    }
    if (reduction == Reduction::mean) result /= static_cast<Sum>(column.size());
    return static_cast<T>(result);
  }

  std::size_t used_;
  std::vector<std::vector<T>> brought_;
  std::vector<T> reduced_;
};

}  // namespace heddle

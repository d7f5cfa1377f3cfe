#include "heddle/sync/reduce.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <type_traits>

namespace heddle {

// The machine's own conversions round to nearest even, as the compiler's do without them.
float16::float16(float value) noexcept
    : bits(std::bit_cast<std::uint16_t>(static_cast<_Float16>(value))) {}
float16::operator float() const noexcept {
  return static_cast<float>(std::bit_cast<_Float16>(bits));
}

std::size_t size_of(NumberType type) noexcept {
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
      return 1;
  }
  return 1;
}

namespace {

// What a T is added up as.
template <class T>
struct Sum {
  using type = T;
};
template <>
struct Sum<bfloat16> {
  using type = float;
};
template <>
struct Sum<float16> {
  using type = float;
};

template <Reduction reduction, class S>
[[gnu::always_inline]] inline S combine(S a, S b) {
  if constexpr (reduction == Reduction::min) return b < a ? b : a;
  if constexpr (reduction == Reduction::max) return a < b ? b : a;
  constexpr bool is_product = reduction == Reduction::product;
  if constexpr (std::is_integral_v<S>) {
    using U = std::make_unsigned_t<S>;
    return static_cast<S>(is_product ? static_cast<U>(a) * static_cast<U>(b)
                                     : static_cast<U>(a) + static_cast<U>(b));
  } else {
    return is_product ? a * b : a + b;
  }
}

// COLL-1: whoever calls it for whichever part.  A block is small enough to stay in the first cache.
template <class T, Reduction reduction>
[[gnu::always_inline]] inline void body(T* out, std::span<const void* const> in,
                                        std::size_t count) {
  using S = typename Sum<T>::type;
  constexpr std::size_t block = 512;
  const auto input = [&](std::size_t k) { return static_cast<const T*>(in[k]); };
  std::array<S, block> sums;
  for (std::size_t at = 0; at < count; at += block) {
    const std::size_t size = std::min(block, count - at);
    const T* first = input(0) + at;
    if (in.size() == 1) {
      for (std::size_t i = 0; i < size; ++i) sums[i] = static_cast<S>(first[i]);
    } else {
      const T* second = input(1) + at;
      for (std::size_t i = 0; i < size; ++i) {
        sums[i] = combine<reduction>(static_cast<S>(first[i]), static_cast<S>(second[i]));
      }
    }
    for (std::size_t k = 2; k < in.size(); ++k) {
      const T* next = input(k) + at;
      for (std::size_t i = 0; i < size; ++i) {
        sums[i] = combine<reduction>(sums[i], static_cast<S>(next[i]));
      }
    }
    if constexpr (reduction == Reduction::mean) {
      const auto inputs = static_cast<S>(in.size());
      for (std::size_t i = 0; i < size; ++i) sums[i] = sums[i] / inputs;
    }
    for (std::size_t i = 0; i < size; ++i) out[at + i] = static_cast<T>(sums[i]);
  }
}

using Kernel = void (*)(void* out, std::span<const void* const> in, std::size_t count);

// The same body, compiled for three kinds of processors.
template <class T, Reduction reduction>
void portable(void* out, std::span<const void* const> in, std::size_t count) {
  body<T, reduction>(static_cast<T*>(out), in, count);
}
#if defined(__x86_64__)
template <class T, Reduction reduction>
[[gnu::target("avx2,f16c")]] void by_avx2(void* out, std::span<const void* const> in,
                                          std::size_t count) {
  body<T, reduction>(static_cast<T*>(out), in, count);
}
template <class T, Reduction reduction>
[[gnu::target("avx512f,avx512vl,avx512bw,avx512dq,f16c,prefer-vector-width=512")]] void by_avx512(
    void* out, std::span<const void* const> in, std::size_t count) {
  body<T, reduction>(static_cast<T*>(out), in, count);
}
#endif

Vectors find_vectors() noexcept {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c");
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq")) {
    return Vectors::avx512;
  }
  if (avx2) return Vectors::avx2;
#endif
  return Vectors::portable;
}

template <class T, Reduction reduction>
Kernel kernel(Vectors vectors) {
#if defined(__x86_64__)
  if (vectors == Vectors::avx512) return by_avx512<T, reduction>;
  if (vectors == Vectors::avx2) return by_avx2<T, reduction>;
#endif
  static_cast<void>(vectors);
  return portable<T, reduction>;
}

template <class T>
Kernel kernel(Reduction reduction, Vectors vectors) {
  switch (reduction) {
    case Reduction::sum:
      return kernel<T, Reduction::sum>(vectors);
    case Reduction::mean:
      return kernel<T, Reduction::mean>(vectors);
    case Reduction::min:
      return kernel<T, Reduction::min>(vectors);
    case Reduction::max:
      return kernel<T, Reduction::max>(vectors);
    case Reduction::product:
      return kernel<T, Reduction::product>(vectors);
  }
  return kernel<T, Reduction::sum>(vectors);
}

Kernel kernel(NumberType type, Reduction reduction, Vectors vectors) {
  switch (type) {
    case NumberType::float64:
      return kernel<double>(reduction, vectors);
    case NumberType::int32:
      return kernel<std::int32_t>(reduction, vectors);
    case NumberType::int64:
      return kernel<std::int64_t>(reduction, vectors);
    case NumberType::bfloat16:
      return kernel<bfloat16>(reduction, vectors);
    case NumberType::float16:
      return kernel<float16>(reduction, vectors);
    default:
      return kernel<float>(reduction, vectors);
  }
}

}  // namespace

Vectors widest_vectors() noexcept {
  static const Vectors vectors = find_vectors();
  return vectors;
}

void reduce(NumberType type, Reduction reduction, void* out, std::span<const void* const> in,
            std::size_t count, Vectors vectors) noexcept {
  kernel(type, reduction, vectors)(out, in, count);
}

void reduce(NumberType type, Reduction reduction, void* out, std::span<const void* const> in,
            std::size_t count) noexcept {
  reduce(type, reduction, out, in, count, widest_vectors());
}

}  // namespace heddle

#include "heddle/sync/reduce.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <type_traits>

namespace heddle {

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

// COLL-1: whoever calls it for whichever part.
template <class T, Reduction reduction>
[[gnu::always_inline]] inline void body(T* out, std::span<const void* const> in,
                                        std::size_t count) {
  using S = typename Sum<T>::type;
  const auto input = [&](std::size_t k) { return static_cast<const T*>(in[k]); };
  const auto inputs = static_cast<S>(static_cast<float>(in.size()));
  const auto finish = [&](S sum) {
    return static_cast<T>(reduction == Reduction::mean ? sum / inputs : sum);
  };
  if (in.size() == 2) {  // no need to keep the sums elsewhere
    const T* const first = input(0);
    const T* const second = input(1);
#ifndef __clang__
#pragma GCC ivdep  // `out` is one of them, or neither
#endif
    for (std::size_t i = 0; i < count; ++i) {
      out[i] = finish(combine<reduction>(static_cast<S>(first[i]), static_cast<S>(second[i])));
    }
    return;
  }
  constexpr std::size_t block = 512;  // small enough to stay in the first cache
  std::array<S, block> sums;
  for (std::size_t at = 0; at < count; at += block) {
    const std::size_t size = std::min(block, count - at);
    const T* const first = input(0) + at;
    for (std::size_t i = 0; i < size; ++i) sums[i] = static_cast<S>(first[i]);
    for (std::size_t k = 1; k < in.size(); ++k) {
      const T* const next = input(k) + at;
      for (std::size_t i = 0; i < size; ++i) {
        sums[i] = combine<reduction>(sums[i], static_cast<S>(next[i]));
      }
    }
    for (std::size_t i = 0; i < size; ++i) out[at + i] = finish(sums[i]);
  }
}

// Clang has other names for these targets; it is here for its sanitizers, which slow them down anyhow.
#if defined(__x86_64__) && !defined(__clang__)
#define HEDDLE_VECTORS
#endif

using Kernel = void (*)(void* out, std::span<const void* const> in, std::size_t count);

// The same body, compiled for three kinds of processors.
template <class T, Reduction reduction>
void portable(void* out, std::span<const void* const> in, std::size_t count) {
  body<T, reduction>(static_cast<T*>(out), in, count);
}
#ifdef HEDDLE_VECTORS
template <class T, Reduction reduction>
[[gnu::target("avx2")]] void by_avx2(void* out, std::span<const void* const> in,
                                     std::size_t count) {
  body<T, reduction>(static_cast<T*>(out), in, count);
}
template <class T, Reduction reduction>
[[gnu::target("avx512f,avx512vl,avx512bw,avx512dq,prefer-vector-width=512")]] void by_avx512(
    void* out, std::span<const void* const> in, std::size_t count) {
  body<T, reduction>(static_cast<T*>(out), in, count);
}
#endif

Vectors find_vectors() noexcept {
#ifdef HEDDLE_VECTORS
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2");
  if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq")) {
    return Vectors::avx512;
  }
  if (avx2) return Vectors::avx2;
#endif
  return Vectors::portable;
}

template <class T, Reduction reduction>
constexpr std::array<Kernel, 3> by_vectors() {  // in the order of Vectors
#ifdef HEDDLE_VECTORS
  return {portable<T, reduction>, by_avx2<T, reduction>, by_avx512<T, reduction>};
#else
  return {portable<T, reduction>, portable<T, reduction>, portable<T, reduction>};
#endif
}
template <class T>
constexpr std::array<std::array<Kernel, 3>, 5> by_reduction() {  // in the order of Reduction
  return {by_vectors<T, Reduction::sum>(), by_vectors<T, Reduction::mean>(),
          by_vectors<T, Reduction::min>(), by_vectors<T, Reduction::max>(),
          by_vectors<T, Reduction::product>()};
}
constexpr std::array<std::array<std::array<Kernel, 3>, 5>, 6> kernels{
    // and of NumberType
    by_reduction<float>(),        by_reduction<double>(),   by_reduction<std::int32_t>(),
    by_reduction<std::int64_t>(), by_reduction<bfloat16>(), by_reduction<float16>()};

const Vectors widest = find_vectors();

}  // namespace

Vectors widest_vectors() noexcept { return widest; }

void reduce(NumberType type, Reduction reduction, void* out, std::span<const void* const> in,
            std::size_t count, Vectors vectors) noexcept {
  const auto of = [](auto value) { return static_cast<std::size_t>(value); };
  kernels[of(type)][of(reduction)][of(vectors)](out, in, count);
}

void reduce(NumberType type, Reduction reduction, void* out, std::span<const void* const> in,
            std::size_t count) noexcept {
  reduce(type, reduction, out, in, count, widest);
}

}  // namespace heddle

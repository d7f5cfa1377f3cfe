#pragma once

// The fast copy, for x86-64: instructions, written as assembly, in and out alike.
//
// In C++          The shared side is memory that instructions touch, no object of the program: nothing
//                 races there. "memory" keeps the compiler from moving other accesses across them.
// Order           Loads are done in order and stores become visible in order, however wide they are
//                 (Intel SDM 3A, "Memory Ordering"; AMD APM 2, "Memory-Access Ordering"). So who has
//                 loaded one byte of a newer value finds the newer generation, which was stored
//                 before it, in any later load. Whether a load was torn makes no difference.
// Whole           An element could be torn where an access ends inside it, or where an access is
//                 split, between two cache lines. Both are multiples of its size away from it when
//                 both sides are aligned for it. No processor is known to split further.
// Streams         Non-temporal stores pass other stores. An sfence before them keeps them behind the
//                 new generation, an sfence after them before what the caller stores next. What a
//                 killed process had streamed is there before the kernel gives up its liveness
//                 token: interrupts and locked instructions write these stores out.
// Sizes           docs/copying.md has what was measured

#if defined(__x86_64__)

#include <emmintrin.h>

#include <cstddef>
#include <cstdint>

namespace heddle::fast {

// Its parts, each of which works for the sizes that it names. `to` and `from` have any alignment.

/// One access. V: an unsigned integer or __m128i.
template <class V>
V load(const std::byte* at) noexcept {
  V value;
  const auto& bytes = *reinterpret_cast<const std::byte(*)[sizeof(V)]>(at);
  if constexpr (sizeof(V) == 16) {
    asm volatile("movdqu %1, %0" : "=x"(value) : "m"(bytes) : "memory");
  } else {
    asm volatile("mov %1, %0" : "=r"(value) : "m"(bytes) : "memory");
  }
  return value;
}
template <class V>
void store(std::byte* at, V value) noexcept {
  auto& bytes = *reinterpret_cast<std::byte(*)[sizeof(V)]>(at);
  if constexpr (sizeof(V) == 16) {
    asm volatile("movdqu %1, %0" : "=m"(bytes) : "x"(value) : "memory");
  } else {
    asm volatile("mov %1, %0" : "=m"(bytes) : "r"(value) : "memory");
  }
}

/// The first and the last V, which may be the same in part.
template <class V>
void both_ends(std::byte* to, const std::byte* from, std::size_t bytes) noexcept {
  const V first = load<V>(from);
  const V last = load<V>(from + bytes - sizeof(V));
  store(to, first);
  store(to + bytes - sizeof(V), last);
}

/// Up to 64 bytes.
inline void few(std::byte* to, const std::byte* from, std::size_t bytes) noexcept {
  if (bytes > 32) {
    both_ends<__m128i>(to, from, bytes);
    both_ends<__m128i>(to + 16, from + 16, bytes - 32);
  } else if (bytes >= 16) {
    both_ends<__m128i>(to, from, bytes);
  } else if (bytes >= 8) {
    both_ends<std::uint64_t>(to, from, bytes);
  } else if (bytes >= 4) {
    both_ends<std::uint32_t>(to, from, bytes);
  } else if (bytes >= 2) {
    both_ends<std::uint16_t>(to, from, bytes);
  } else if (bytes == 1) {
    store(to, load<std::uint8_t>(from));
  }
}

/// From 64 bytes on.
void by_sse2(std::byte* to, const std::byte* from, std::size_t bytes) noexcept;
void by_avx(std::byte* to, const std::byte* from, std::size_t bytes) noexcept;
/// From 128 bytes on.
void streamed(std::byte* to, const std::byte* from, std::size_t bytes) noexcept;

/// What this processor has, and from which size on copies are streamed.
bool has_avx() noexcept;
std::size_t streamed_from() noexcept;

/// From 64 bytes on, by that of the three which is fastest here.
void many(std::byte* to, const std::byte* from, std::size_t bytes) noexcept;

inline void copy(void* to, const void* from, std::size_t bytes) noexcept {
  (bytes <= 64 ? few : many)(static_cast<std::byte*>(to), static_cast<const std::byte*>(from),
                             bytes);
}

}  // namespace heddle::fast

#endif

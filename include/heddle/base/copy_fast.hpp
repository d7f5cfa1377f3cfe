#pragma once

// The fast copy, for x86-64: an access to the shared side is one instruction, written as assembly.
//
// In C++          The shared side is memory that instructions touch, no object of the program: nothing
//                 races there. "memory" keeps the compiler from moving other accesses across them.
//                 The private side is plain C++, which sanitizers see.
// Order           Loads are done in order and stores become visible in order, however wide they are
//                 (Intel SDM 3A, "Memory Ordering"; AMD APM 2, "Memory-Access Ordering"). So who has
//                 loaded one byte of a newer value finds the newer generation, which was stored
//                 before it, in any later load. Whether a load was torn makes no difference.
// Whole           An element could be torn where an access ends inside it, or where an access is
//                 split, between two cache lines. Both are multiples of its size away from it when
//                 both sides are aligned for it. No processor is known to split further.
// Streams         Non-temporal stores pass other stores. An sfence before them keeps them behind the
//                 new generation, an sfence after them before "complete". What a killed process
//                 had streamed is there before the kernel gives up its liveness token: interrupts
//                 and locked instructions write these stores out.

#if defined(__x86_64__)

#include <emmintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace heddle::fast {

/// From this size on copies go around the caches.
extern const std::size_t beyond_caches;

/// The shared side. V: an unsigned integer or __m128i.
template <class V>
V shared_load(const std::byte* at) noexcept {
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
void shared_store(std::byte* at, V value) noexcept {
  auto& bytes = *reinterpret_cast<std::byte(*)[sizeof(V)]>(at);
  if constexpr (sizeof(V) == 16) {
    asm volatile("movdqu %1, %0" : "=m"(bytes) : "x"(value) : "memory");
  } else {
    asm volatile("mov %1, %0" : "=m"(bytes) : "r"(value) : "memory");
  }
}

/// The private side is plain C++, which sanitizers see.
template <class V>
V private_load(const std::byte* at) noexcept {
  V value;
  std::memcpy(&value, at, sizeof(V));
  return value;
}

template <class V>
void private_store(std::byte* at, V value) noexcept {
  std::memcpy(at, &value, sizeof(V));
}

struct In {
  template <class V>
  static V load(const std::byte* at) noexcept {
    return private_load<V>(at);
  }
  template <class V>
  static void store(std::byte* at, V value) noexcept {
    shared_store<V>(at, value);
  }
  static void stream(std::byte* at, __m128i value) noexcept {
    auto& bytes = *reinterpret_cast<std::byte(*)[16]>(at);
    asm volatile("movntdq %1, %0" : "=m"(bytes) : "x"(value) : "memory");
  }
};

struct Out {
  template <class V>
  static V load(const std::byte* at) noexcept {
    return shared_load<V>(at);
  }
  template <class V>
  static void store(std::byte* at, V value) noexcept {
    private_store<V>(at, value);
  }
  static void stream(std::byte* at, __m128i value) noexcept {
    _mm_stream_si128(reinterpret_cast<__m128i*>(at), value);
  }
};

/// Moves `count` vectors; all are loaded before the first is stored.
template <class Way, std::size_t count>
[[gnu::always_inline]] inline void vectors(std::byte* to, const std::byte* from) noexcept {
  __m128i vector[count];
  for (std::size_t i = 0; i < count; ++i) vector[i] = Way::template load<__m128i>(from + i * 16);
  for (std::size_t i = 0; i < count; ++i) Way::template store<__m128i>(to + i * 16, vector[i]);
}

/// Moves the first and the last V of `bytes`, which may be the same in part.
template <class Way, class V>
void both_ends(std::byte* to, const std::byte* from, std::size_t bytes) noexcept {
  const V first = Way::template load<V>(from);
  const V last = Way::template load<V>(from + bytes - sizeof(V));
  Way::template store<V>(to, first);
  Way::template store<V>(to + bytes - sizeof(V), last);
}

/// Up to 64 bytes.
template <class Way>
void few(std::byte* to, const std::byte* from, std::size_t bytes) noexcept {
  if (bytes > 32) {
    const __m128i middle = Way::template load<__m128i>(from + 16);
    const __m128i behind = Way::template load<__m128i>(from + bytes - 32);
    both_ends<Way, __m128i>(to, from, bytes);
    Way::template store<__m128i>(to + 16, middle);
    Way::template store<__m128i>(to + bytes - 32, behind);
  } else if (bytes >= 16) {
    both_ends<Way, __m128i>(to, from, bytes);
  } else if (bytes >= 8) {
    both_ends<Way, std::uint64_t>(to, from, bytes);
  } else if (bytes >= 4) {
    both_ends<Way, std::uint32_t>(to, from, bytes);
  } else if (bytes >= 2) {
    both_ends<Way, std::uint16_t>(to, from, bytes);
  } else if (bytes == 1) {
    both_ends<Way, std::uint8_t>(to, from, bytes);
  }
}

/// From 64 bytes on, through the caches. Unaligned at both ends; between them stores are aligned.
template <class Way>
void cached(std::byte* to, const std::byte* from, std::size_t bytes) noexcept {
  const std::size_t end = bytes - 64;
  vectors<Way, 1>(to, from);
  for (std::size_t at = 16 - reinterpret_cast<std::uintptr_t>(to) % 16; at < end; at += 64) {
    vectors<Way, 4>(to + at, from + at);
  }
  vectors<Way, 4>(to + end, from + end);
}

/// From 64 bytes on, around the caches: whole lines by non-temporal stores.
template <class Way>
void streamed(std::byte* to, const std::byte* from, std::size_t bytes) noexcept {
  const std::size_t end = bytes - 64;
  _mm_sfence();
  vectors<Way, 4>(to, from);
  for (std::size_t at = 64 - reinterpret_cast<std::uintptr_t>(to) % 64; at < end; at += 64) {
    __m128i line[4];
    for (std::size_t i = 0; i < 4; ++i) line[i] = Way::template load<__m128i>(from + at + i * 16);
    for (std::size_t i = 0; i < 4; ++i) Way::stream(to + at + i * 16, line[i]);
  }
  vectors<Way, 4>(to + end, from + end);
  _mm_sfence();
}

template <class Way>
void copy(void* to, const void* from, std::size_t bytes) noexcept {
  auto* target = static_cast<std::byte*>(to);
  const auto* source = static_cast<const std::byte*>(from);
  if (bytes <= 64) {
    few<Way>(target, source, bytes);
  } else if (bytes < beyond_caches) {
    cached<Way>(target, source, bytes);
  } else {
    streamed<Way>(target, source, bytes);
  }
}

inline void copy_in(void* shared, const void* from, std::size_t bytes) noexcept {
  copy<In>(shared, from, bytes);
}
inline void copy_out(void* to, const void* shared, std::size_t bytes) noexcept {
  copy<Out>(to, shared, bytes);
}

}  // namespace heddle::fast

#endif

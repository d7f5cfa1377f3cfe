#include "heddle/base/copy_fast.hpp"

#if defined(__x86_64__)

#include <cpuid.h>

#include <algorithm>

namespace heddle::fast {
namespace {

// Each of these loads all before it stores the first.

void sse2_16(std::byte* to, const std::byte* from) noexcept { store(to, load<__m128i>(from)); }

void sse2_64(std::byte* to, const std::byte* from) noexcept {
  const auto a = load<__m128i>(from), b = load<__m128i>(from + 16);
  const auto c = load<__m128i>(from + 32), d = load<__m128i>(from + 48);
  store(to, a), store(to + 16, b), store(to + 32, c), store(to + 48, d);
}

void avx_64(std::byte* to, const std::byte* from) noexcept {
  asm volatile(
      "vmovdqu (%1), %%ymm0 \n\t"
      "vmovdqu 32(%1), %%ymm1 \n\t"
      "vmovdqu %%ymm0, (%0) \n\t"
      "vmovdqu %%ymm1, 32(%0)"
      :
      : "r"(to), "r"(from)
      : "memory", "xmm0", "xmm1");
}

void avx_128(std::byte* to, const std::byte* from) noexcept {
  asm volatile(
      "vmovdqu (%1), %%ymm0 \n\t"
      "vmovdqu 32(%1), %%ymm1 \n\t"
      "vmovdqu 64(%1), %%ymm2 \n\t"
      "vmovdqu 96(%1), %%ymm3 \n\t"
      "vmovdqu %%ymm0, (%0) \n\t"
      "vmovdqu %%ymm1, 32(%0) \n\t"
      "vmovdqu %%ymm2, 64(%0) \n\t"
      "vmovdqu %%ymm3, 96(%0)"
      :
      : "r"(to), "r"(from)
      : "memory", "xmm0", "xmm1", "xmm2", "xmm3");
}

// Around the caches, two lines; `to` is aligned to a line.
void stream_128(std::byte* to, const std::byte* from) noexcept {
  asm volatile(
      "movdqu (%1), %%xmm0 \n\t"
      "movdqu 16(%1), %%xmm1 \n\t"
      "movdqu 32(%1), %%xmm2 \n\t"
      "movdqu 48(%1), %%xmm3 \n\t"
      "movdqu 64(%1), %%xmm4 \n\t"
      "movdqu 80(%1), %%xmm5 \n\t"
      "movdqu 96(%1), %%xmm6 \n\t"
      "movdqu 112(%1), %%xmm7 \n\t"
      "movntdq %%xmm0, (%0) \n\t"
      "movntdq %%xmm1, 16(%0) \n\t"
      "movntdq %%xmm2, 32(%0) \n\t"
      "movntdq %%xmm3, 48(%0) \n\t"
      "movntdq %%xmm4, 64(%0) \n\t"
      "movntdq %%xmm5, 80(%0) \n\t"
      "movntdq %%xmm6, 96(%0) \n\t"
      "movntdq %%xmm7, 112(%0)"
      :
      : "r"(to), "r"(from)
      : "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7");
}

// Bytes from `to` to the next boundary behind it.
std::size_t to_boundary(const std::byte* to, std::size_t boundary) noexcept {
  return boundary - reinterpret_cast<std::uintptr_t>(to) % boundary;
}

// Of the largest cache that this core uses, as the processor says. (sysconf() takes the caches of
// some machines for ten times what they are, and memcpy with it.) 0 when it says nothing.
std::size_t last_level_cache_bytes() noexcept {
  std::size_t largest = 0;
  for (const unsigned leaf : {4U, 0x8000001dU}) {  // Intel's and AMD's, of the same form
    unsigned a = 0, b = 0, c = 0, d = 0;
    for (unsigned i = 0; __get_cpuid_count(leaf, i, &a, &b, &c, &d) != 0 && a % 32 != 0; ++i) {
      const std::size_t ways = (b >> 22U) + 1, partitions = (b >> 12U) % 1024 + 1;
      const std::size_t line = b % 4096 + 1, sets = std::size_t{c} + 1;
      largest = std::max(largest, ways * partitions * line * sets);
    }
  }
  return largest;
}

}  // namespace

void by_sse2(std::byte* to, const std::byte* from, std::size_t bytes) noexcept {
  const std::size_t last = bytes - 64;
  sse2_16(to, from);
  for (std::size_t at = to_boundary(to, 16); at < last; at += 64) sse2_64(to + at, from + at);
  sse2_64(to + last, from + last);
}

void by_avx(std::byte* to, const std::byte* from, std::size_t bytes) noexcept {
  avx_64(to, from);
  if (bytes > 128) {
    const std::size_t last = bytes - 128;
    for (std::size_t at = to_boundary(to, 32); at < last; at += 128) avx_128(to + at, from + at);
    avx_64(to + last, from + last);
  }
  avx_64(to + bytes - 64, from + bytes - 64);
  asm volatile("vzeroupper" ::: "xmm0", "xmm1", "xmm2", "xmm3");
}

void streamed(std::byte* to, const std::byte* from, std::size_t bytes) noexcept {
  const std::size_t last = bytes - 128;
  _mm_sfence();
  sse2_64(to, from);
  for (std::size_t at = to_boundary(to, 64); at < last; at += 128) stream_128(to + at, from + at);
  sse2_64(to + last, from + last);
  sse2_64(to + last + 64, from + last + 64);
  _mm_sfence();
}

bool has_avx() noexcept { return __builtin_cpu_supports("avx") != 0; }

std::size_t streamed_from() noexcept {
  const std::size_t cache = last_level_cache_bytes();
  return cache == 0 ? SIZE_MAX : cache / 2;
}

namespace {

// What every processor can do, until this one has been asked.
struct Choice {
  void (*cached)(std::byte*, const std::byte*, std::size_t) noexcept = by_sse2;
  std::size_t streamed_from = SIZE_MAX;
};
constinit Choice choice;
const bool asked = [] {
  choice = {has_avx() ? by_avx : by_sse2, streamed_from()};
  return true;
}();

}  // namespace

void many(std::byte* to, const std::byte* from, std::size_t bytes) noexcept {
  (bytes < choice.streamed_from ? choice.cached : streamed)(to, from, bytes);
}

}  // namespace heddle::fast

#endif

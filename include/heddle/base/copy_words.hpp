#pragma once

// The copy by words: relaxed atomics of eight bytes, and of four where the memory is not aligned to
// eight or the value ends in the middle of eight.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "heddle/base/atomic.hpp"

namespace heddle::words {

/// Moves up to one T: an atomic on the shared side, bytes on the private side.
struct In {
  template <class T>
  static void move(std::byte* shared, const std::byte* from, std::size_t bytes) noexcept {
    T word = 0;
    std::memcpy(&word, from, bytes);
    reinterpret_cast<Atomic<T>*>(shared)->store(word, owned);
  }
};
struct Out {
  template <class T>
  static void move(std::byte* to, const std::byte* shared, std::size_t bytes) noexcept {
    const T word = reinterpret_cast<const Atomic<T>*>(shared)->load(relaxed);
    std::memcpy(to, &word, bytes);
  }
};

template <class Way>
void copy(std::byte* to, const std::byte* from, const void* shared, std::size_t bytes) noexcept {
  const auto eight = [=](std::size_t i) { Way::template move<std::uint64_t>(to + i, from + i, 8); };
  std::size_t at = 0;
  if (reinterpret_cast<std::uintptr_t>(shared) % 8 != 0 && bytes >= 4) {
    Way::template move<std::uint32_t>(to, from, 4);
    at = 4;
  }
  // Eight at a time: relaxed atomics are not vectorised, and this keeps eight in flight.
  for (; at + 64 <= bytes; at += 64) {
    eight(at), eight(at + 8), eight(at + 16), eight(at + 24);
    eight(at + 32), eight(at + 40), eight(at + 48), eight(at + 56);
  }
  for (; at + 8 <= bytes; at += 8) eight(at);
  for (; at < bytes; at += 4) {
    Way::template move<std::uint32_t>(to + at, from + at, std::min<std::size_t>(4, bytes - at));
  }
}

inline void copy_in(void* shared, const void* from, std::size_t bytes) noexcept {
  copy<In>(static_cast<std::byte*>(shared), static_cast<const std::byte*>(from), shared, bytes);
}
inline void copy_out(void* to, const void* shared, std::size_t bytes) noexcept {
  copy<Out>(static_cast<std::byte*>(to), static_cast<const std::byte*>(shared), shared, bytes);
}

}  // namespace heddle::words

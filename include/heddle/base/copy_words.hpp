#pragma once

// The copy by words: relaxed atomics of eight bytes, and of four where the memory is not aligned to
// eight or the value ends in the middle. What the schedule explorer and ThreadSanitizer see.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "heddle/base/atomic.hpp"

namespace heddle::words {

/// Between the two sides of a copy, word by word: `eight(at)` and `four(at, bytes)` move one.
template <class Eight, class Four>
void each_word(const void* shared, std::size_t bytes, Eight eight, Four four) noexcept {
  std::size_t at = 0;
  if (reinterpret_cast<std::uintptr_t>(shared) % 8 != 0 && bytes >= 4) {
    four(at, std::size_t{4});
    at = 4;
  }
  // Eight at a time: relaxed atomics are not vectorised, and this keeps eight in flight.
  for (; at + 64 <= bytes; at += 64) {
    eight(at), eight(at + 8), eight(at + 16), eight(at + 24);
    eight(at + 32), eight(at + 40), eight(at + 48), eight(at + 56);
  }
  for (; at + 8 <= bytes; at += 8) eight(at);
  for (; at < bytes; at += 4) four(at, std::min<std::size_t>(4, bytes - at));
}

inline void copy_in(void* shared, const void* from, std::size_t bytes) noexcept {
  auto* to = static_cast<std::byte*>(shared);
  const auto* source = static_cast<const std::byte*>(from);
  const auto move = [&]<class T>(T word, std::size_t at, std::size_t size) {
    std::memcpy(&word, source + at, size);
    reinterpret_cast<Atomic<T>*>(to + at)->store(word, relaxed);
  };
  each_word(
      shared, bytes, [&](std::size_t at) { move(std::uint64_t{0}, at, 8); },
      [&](std::size_t at, std::size_t size) { move(std::uint32_t{0}, at, size); });
}

inline void copy_out(void* to, const void* shared, std::size_t bytes) noexcept {
  auto* target = static_cast<std::byte*>(to);
  const auto* from = static_cast<const std::byte*>(shared);
  const auto move = [&]<class T>(T word, std::size_t at, std::size_t size) {
    word = reinterpret_cast<const Atomic<T>*>(from + at)->load(relaxed);
    std::memcpy(target + at, &word, size);
  };
  each_word(
      shared, bytes, [&](std::size_t at) { move(std::uint64_t{0}, at, 8); },
      [&](std::size_t at, std::size_t size) { move(std::uint32_t{0}, at, size); });
}

}  // namespace heddle::words

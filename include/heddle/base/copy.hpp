#pragma once

// Copies that race with a writer: word by word, relaxed, so that a copy which is thrown away
// afterwards was no data race. Source: Boehm 2012, "Can seqlocks get along with programming
// language memory models?"

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "heddle/base/atomic.hpp"

namespace heddle {

using SharedWord = Atomic<std::uint64_t>;

/// Bytes that `bytes` take up in shared words.
constexpr std::size_t word_padded(std::size_t bytes) { return (bytes + 7) / 8 * 8; }

/// Copies `bytes` from private to shared memory. `to` has room for word_padded(bytes). Wait-free.
inline void copy_in(SharedWord* to, const void* from, std::size_t bytes) noexcept {
  const auto* source = static_cast<const std::byte*>(from);
  const std::size_t words = bytes / 8;
  std::size_t i = 0;
  const auto one = [&](std::size_t at) {
    std::uint64_t word;
    std::memcpy(&word, source + at * 8, 8);
    to[at].store(word, relaxed);
  };
  // Eight at a time: relaxed atomics are not vectorised, and this keeps eight in flight.
  for (; i + 8 <= words; i += 8) {
    one(i), one(i + 1), one(i + 2), one(i + 3), one(i + 4), one(i + 5), one(i + 6), one(i + 7);
  }
  for (; i < words; ++i) one(i);
  if (const std::size_t rest = bytes % 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, source + words * 8, rest);
    to[words].store(word, relaxed);
  }
}

/// Copies `bytes` from shared to private memory. What it reads may be torn until the caller has
/// made sure that no writer passed by. Wait-free.
inline void copy_out(void* to, const SharedWord* from, std::size_t bytes) noexcept {
  auto* target = static_cast<std::byte*>(to);
  const std::size_t words = bytes / 8;
  std::size_t i = 0;
  const auto one = [&](std::size_t at) {
    const std::uint64_t word = from[at].load(relaxed);
    std::memcpy(target + at * 8, &word, 8);
  };
  for (; i + 8 <= words; i += 8) {
    one(i), one(i + 1), one(i + 2), one(i + 3), one(i + 4), one(i + 5), one(i + 6), one(i + 7);
  }
  for (; i < words; ++i) one(i);
  if (const std::size_t rest = bytes % 8) {
    const std::uint64_t word = from[words].load(relaxed);
    std::memcpy(target + words * 8, &word, rest);
  }
}

}  // namespace heddle

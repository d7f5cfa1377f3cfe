#pragma once

// Copies that race: into shared memory while others may read it, and out of it while others may
// write it. What a reader gets may be torn, and then it is thrown away; the caller knows by a
// generation that it looks at before and after.
//
// Who may call    anyone; copy_out also from a read-only mapping
// Progress        wait-free
// Alignment       the shared side to 4 bytes, the private side to any; the two do not overlap. When
//                 `bytes` is no multiple of 4, copy_in may write zeroes up to the next one
// Order           as of relaxed accesses: the caller's fences stand between them and the generation.
//                 new generation, fence(release), copy_in, store(release)
//                 load(acquire), copy_out, fence(acquire), the generation again
//                 Who has copied one byte that is newer then finds a newer generation
// Whole           elements of 4 and 8 bytes come out whole when both sides are aligned for them
// Backends        words: relaxed atomics, which the explorer and sanitizers can look into.
//                 fast: instructions of x86-64 that are no accesses of C++; copy_fast.hpp says why
//                 they keep the same promises
// Source          Boehm 2012, "Can seqlocks get along with programming language memory models?"

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "heddle/base/atomic.hpp"
#include "heddle/base/copy_fast.hpp"
#include "heddle/base/copy_words.hpp"

#if defined(HEDDLE_MACHINE) || !defined(__x86_64__) || defined(__SANITIZE_THREAD__) || \
    defined(__SANITIZE_ADDRESS__)
#define HEDDLE_COPY_BY_WORDS
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer) || \
    __has_feature(memory_sanitizer)
#define HEDDLE_COPY_BY_WORDS
#endif
#endif

namespace heddle {

using SharedWord = Atomic<std::uint64_t>;

/// Copies `bytes` from private to shared memory.
inline void copy_in(void* shared, const void* from, std::size_t bytes) noexcept {
#ifdef HEDDLE_COPY_BY_WORDS
  words::copy_in(shared, from, bytes);
#else
  fast::copy(shared, from, bytes);
#endif
}

/// Copies `bytes` from shared to private memory.
inline void copy_out(void* to, const void* shared, std::size_t bytes) noexcept {
#ifdef HEDDLE_COPY_BY_WORDS
  words::copy_out(to, shared, bytes);
#else
  fast::copy(to, shared, bytes);
#endif
}

/// Copies memory that nobody writes meanwhile, to where nobody looks: of any alignment, and no byte more.
inline void copy_plain(void* to, const void* from, std::size_t bytes) noexcept {
#if defined(HEDDLE_MACHINE)
  model::machine::copy(to, from, bytes);
#elif defined(HEDDLE_COPY_BY_WORDS)
  if (bytes != 0) std::memcpy(to, from, bytes);
#else
  fast::copy(to, from, bytes);
#endif
}

/// The same, around the caches: for 128 bytes and more.
inline void copy_streamed(void* to, const void* from, std::size_t bytes) noexcept {
#if defined(HEDDLE_COPY_BY_WORDS)
  copy_plain(to, from, bytes);
#else
  fast::streamed(static_cast<std::byte*>(to), static_cast<const std::byte*>(from), bytes);
#endif
}

/// A hint: fetches the cache line of what the caller will write soon, from those who have read it.
inline void prefetch_for_writing(const void* shared) noexcept {
#ifdef HEDDLE_COPY_BY_WORDS
  static_cast<void>(shared);
#else
  asm volatile("prefetchw %0" ::"m"(*static_cast<const std::byte*>(shared)));
#endif
}

}  // namespace heddle

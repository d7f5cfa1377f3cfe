#pragma once

// Counts what the program allocates with operator new. Weak, so that several files of one test
// program may include it.

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace heddle::test {
inline std::atomic<long> allocations{0};
}

[[gnu::weak]] void* operator new(std::size_t size) {
  heddle::test::allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
[[gnu::weak]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::weak]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace heddle::test {
/// False under a sanitizer that brings its own operator new.
inline bool allocations_are_counted() {
  const long before = allocations;
  ::operator delete(::operator new(1));
  return allocations != before;
}
}  // namespace heddle::test

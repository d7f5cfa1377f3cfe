#include "heddle/base/copy_fast.hpp"

#if defined(__x86_64__)

#include <cpuid.h>

#include <algorithm>

namespace heddle::fast {
namespace {

// Of the largest cache that this core uses, as the processor says: sysconf() and with it memcpy take
// some machines' caches for many times what they are. 0 when it says nothing.
std::size_t last_level_cache_bytes() {
  std::size_t largest = 0;
  for (const unsigned leaf : {4U, 0x8000001dU}) {  // Intel's, AMD's: of the same form
    unsigned a = 0, b = 0, c = 0, d = 0;
    for (unsigned i = 0; __get_cpuid_count(leaf, i, &a, &b, &c, &d) != 0 && a % 32 != 0; ++i) {
      const std::size_t ways = (b >> 22) + 1, partitions = (b >> 12) % 1024 + 1;
      const std::size_t line = b % 4096 + 1, sets = std::size_t{c} + 1;
      largest = std::max(largest, ways * partitions * line * sets);
    }
  }
  return largest;
}

std::size_t measured_cut_over() {
  const std::size_t cache = last_level_cache_bytes();
  return cache == 0 ? SIZE_MAX : cache / 2;
}

}  // namespace

const std::size_t beyond_caches = measured_cut_over();

}  // namespace heddle::fast

#endif

// Collectives of a group: their latency, what the machine's memory leaves to be won, and what the death
// of a member costs the others.

#include <fmt/format.h>

#include <cstring>
#include <string>
#include <vector>

#include "case.hpp"
#include "collective_death.hpp"
#include "heddle/base/copy.hpp"
#include "heddle_group.hpp"
#include "suites.hpp"

#if HEDDLE_BENCH_PEERS
#include "peers/launched.hpp"
#endif

namespace heddle::bench {
namespace {

constexpr std::size_t kib = 1024;
constexpr std::size_t mib = kib * kib;

struct Size {
  const char* name;
  std::size_t bytes;
  int every = 1;
};
constexpr Size sizes[] = {{"4B", 4},     {"1KiB", kib},          {"64KiB", 64 * kib},
                          {"1MiB", mib}, {"16MiB", 16 * mib, 5}, {"64MiB", 64 * mib, 10}};

void add(std::vector<Entry>& entries, Operation operation, const char* name, const Size& size,
         int ranks) {
  Case here(entries, "collective", fmt::format("{}/{}/{}", name, size.name, ranks), latency,
            size.every);
  here.add<GroupContender>("heddle_shared", operation, ranks, size.bytes, Memory::shared);
  here.add<GroupContender>("heddle_private", operation, ranks, size.bytes, Memory::its_own);
#if HEDDLE_BENCH_PEERS
  add_peers(here, operation, ranks, size.bytes);
#endif
  here.compare_with("heddle_shared");
  // Up to four also say what becomes of ranks that share cores.
  if (ranks > 4) here.needs_processors(static_cast<std::size_t>(ranks));
}

/// Beside the allreduce of the same size: as long as the machine itself needs.
void add_limit(std::vector<Entry>& entries, const Size& size, int ranks) {
  Case here(entries, "collective", fmt::format("allreduce/bandwidth/{}/{}", size.name, ranks),
            latency, size.every);
  const std::string beside = fmt::format("allreduce/f32/{}/{}", size.name, ranks);
  constexpr CopyContender::Copy plain = [](void* to, const void* from, std::size_t bytes) {
    std::memcpy(to, from, bytes);
  };
  constexpr CopyContender::Copy fast = [](void* to, const void* from, std::size_t bytes) {
    copy_in(to, from, bytes);
  };
  compare(here.add<CopyContender>("hardware", fast, ranks, size.bytes), beside, "heddle_shared");
  compare(here.add<CopyContender>("memcpy", plain, ranks, size.bytes), beside, "heddle_shared");
  if (ranks > 4) here.needs_processors(static_cast<std::size_t>(ranks));
}

}  // namespace

std::vector<Entry> collective_suite() {
  std::vector<Entry> entries;
  for (const int ranks : {2, 4, 8, 16}) {
    for (const Size& size : sizes) {
      add(entries, Operation::allreduce, "allreduce/f32", size, ranks);
    }
    add_limit(entries, sizes[5], ranks);
    for (const Size& size : {sizes[1], sizes[3], sizes[5]}) {
      add(entries, Operation::broadcast, "broadcast", size, ranks);
      add(entries, Operation::all_gather, "all_gather", size, ranks);
    }
  }
  Case(entries, "collective", "allreduce/killed/64MiB", latency, 10)
      .add<GroupDeath>("heddle", 64 * mib);
  return entries;
}

}  // namespace heddle::bench

#pragma once

// What "heddle bench collective" measures. It lies in the segment, where each rank reads it.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "heddle/sync/collective.hpp"

namespace heddle {

enum class BenchMemory : std::uint8_t {
  shared,   ///< SharedBuffers
  its_own,  ///< each rank's, private
};

struct CollectivePlan {
  Collective what = Collective::allreduce;
  NumberType type = NumberType::float32;
  Reduction reduction = Reduction::sum;
  bool shared = true;
  bool its_own = true;
  std::uint32_t ranks = 2;
  std::uint64_t min_bytes = 0;  ///< of one rank's part
  std::uint64_t max_bytes = 0;
  std::uint64_t iterations = 0;  ///< 0: as many as there is time for

  std::size_t element() const noexcept { return size_of(type); }
};

/// One size in one memory.
struct CollectiveRow {
  std::size_t count;  ///< elements of one rank's part: what --min-bytes is about
  BenchMemory memory;
};

/// In elements. 0: the rank calls with none.
struct CollectiveBuffers {
  std::size_t in = 0;
  std::size_t out = 0;
  std::size_t longest() const noexcept { return in < out ? out : in; }
};

constexpr std::uint32_t bench_root = 0;  ///< of collectives that have one

/// In the order in which they are measured.
std::vector<CollectiveRow> rows_of(const CollectivePlan& plan);
/// What this rank calls with. allreduce, broadcast and all_gather are in place: all in `out`.
CollectiveBuffers buffers_of(const CollectivePlan& plan, std::uint32_t rank, std::size_t count);
/// Of all ranks in one memory, at the largest size.
std::size_t buffer_bytes_of_all(const CollectivePlan& plan);

bool reduces(Collective what);
/// Whether no rank can be done before all have come.
bool needs_all(Collective what);

std::string_view name_of(Collective what);
std::string_view name_of(NumberType type);
std::string_view name_of(Reduction reduction);
std::string_view name_of(BenchMemory memory);
/// Throw Error, which lists the names.
Collective parse_collective(const std::string& name);
NumberType parse_number_type(const std::string& name);
Reduction parse_reduction(const std::string& name);

/// Calls `visit` with a number of the type.
template <class Visit>
decltype(auto) with_number(NumberType type, Visit&& visit) {
  switch (type) {
    case NumberType::float64:
      return visit(double{});
    case NumberType::int32:
      return visit(std::int32_t{});
    case NumberType::int64:
      return visit(std::int64_t{});
    case NumberType::bfloat16:
      return visit(bfloat16{});
    case NumberType::float16:
      return visit(float16{});
    default:
      return visit(float{});
  }
}

inline std::string in_buffer_name(std::uint32_t rank) { return "in/" + std::to_string(rank); }
inline std::string out_buffer_name(std::uint32_t rank) { return "out/" + std::to_string(rank); }

}  // namespace heddle

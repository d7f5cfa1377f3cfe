#pragma once

#include <array>
#include <cstdint>

namespace heddle {

/// What a rank of "heddle bench collective" tells the command that has started it.
struct RankReport {
  enum class Kind : std::uint32_t {
    joined,    ///< `pid` has this rank
    measured,  ///< `row` is done, every result was right
    failed,    ///< it was not: `text` says what
    lost,      ///< it was told that another rank died
  };
  Kind kind = Kind::joined;
  std::uint32_t rank = 0;
  std::uint64_t pid = 0;
  std::uint64_t row = 0;
  std::uint64_t calls = 0;  ///< timed
  double median_ns = 0;
  std::uint64_t compared = 0;  ///< elements
  std::array<char, 200> text{};
};

/// What "heddle bench rank" runs: one rank, until all rows are measured. Returns the exit code; ends
/// well also when it has told what went wrong. Throws Error.
int bench_rank();

}  // namespace heddle

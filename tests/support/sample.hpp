#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace heddle::test {

/// 4 KiB that say when they are torn: a kill often hits in the middle of a copy.
struct Sample {
  void fill(std::uint64_t number) {
    for (std::size_t i = 0; i < words.size(); ++i) words[i] = number * (i + 1);
  }
  bool whole() const {
    for (std::size_t i = 0; i < words.size(); ++i) {
      if (words[i] != words[0] * (i + 1)) return false;
    }
    return true;
  }
  std::array<std::uint64_t, 512> words;
};

}  // namespace heddle::test

#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace heddle::test {

/// 64 bytes that say when they are torn.
struct Job {
  static Job of(std::uint64_t number) {
    Job job{number, {}};
    for (std::size_t i = 0; i < job.rest.size(); ++i) job.rest[i] = number * 31 + i;
    return job;
  }
  bool whole() const {
    for (std::size_t i = 0; i < rest.size(); ++i) {
      if (rest[i] != number * 31 + i) return false;
    }
    return true;
  }
  std::uint64_t number;
  std::array<std::uint64_t, 7> rest;
};

}  // namespace heddle::test

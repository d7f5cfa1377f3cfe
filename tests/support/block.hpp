#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <span>

#include "heddle/shm/layout.hpp"

namespace heddle::test {

/// Zeroed, page-aligned private memory in place of a segment's.
class Block {
 public:
  explicit Block(std::size_t bytes)
      : bytes_(bytes),
        memory_(static_cast<std::byte*>(
            std::aligned_alloc(page_bytes, (bytes + page_bytes - 1) / page_bytes * page_bytes))) {
    std::fill_n(memory_.get(), bytes, std::byte{0});
  }
  std::span<std::byte> span() const { return {memory_.get(), bytes_}; }

 private:
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };
  std::size_t bytes_;
  std::unique_ptr<std::byte, Free> memory_;
};

}  // namespace heddle::test

#pragma once

// SharedBuffer: a plain array of T in the segment, with a name. Who may touch which part when is
// its users' agreement; nothing in it is owned, so a death needs no repair.

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>

#include "heddle/base/error.hpp"
#include "heddle/shm/object.hpp"

namespace heddle {

template <class T>
class SharedBuffer {
 public:
  struct Options {
    std::size_t count = 1;  ///< elements, all zero bytes at first
  };

  static constexpr ObjectKind kind = ObjectKind::buffer;
  static constexpr ElementType element() { return element_type<T>(); }
  static std::size_t bytes(const Options& options) {
    if (options.count == 0 || options.count > (std::size_t{1} << 46) / sizeof(T)) {
      throw Error(Errc::invalid_argument,
                  "a shared buffer cannot have " + std::to_string(options.count) + " elements");
    }
    return options.count * sizeof(T);
  }
  static void format(std::span<std::byte> /*memory*/, const Options& /*options*/) {}

  /// Attaches. The memory is aligned to 64 bytes at least, to pages from 4 KiB on.
  SharedBuffer(std::span<std::byte> memory, Peers& /*peers*/)
      : elements_(reinterpret_cast<T*>(memory.data()), memory.size() / sizeof(T)) {
    if (elements_.empty() || memory.size() % sizeof(T) != 0) {
      throw Error(Errc::corrupt, "a shared buffer has a damaged size: make the segment anew");
    }
  }

  std::span<T> span() const noexcept { return elements_; }
  T& operator[](std::size_t index) const noexcept { return elements_[index]; }
  std::size_t size() const noexcept { return elements_.size(); }

 private:
  std::span<T> elements_;
};

}  // namespace heddle

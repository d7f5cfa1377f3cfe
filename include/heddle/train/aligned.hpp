#pragma once

#include <cstddef>
#include <new>
#include <vector>

namespace heddle {

/// Where arrays of floats start. Every Eigen map begins here: Eigen peels loops up to an alignment,
/// so that the same sum taken from another address may have other last bits.
inline constexpr std::size_t float_alignment = 64;
inline constexpr std::size_t aligned_floats = float_alignment / sizeof(float);

/// The smallest multiple of aligned_floats that holds `count` floats.
constexpr std::size_t align_up(std::size_t count) {
  return (count + aligned_floats - 1) / aligned_floats * aligned_floats;
}

template <class T>
struct AlignedAllocator {
  using value_type = T;

  AlignedAllocator() = default;
  template <class U>
  constexpr AlignedAllocator(const AlignedAllocator<U>& /*other*/) noexcept {}

  T* allocate(std::size_t count) {
    if (count > static_cast<std::size_t>(-1) / sizeof(T)) throw std::bad_array_new_length();
    return static_cast<T*>(::operator new (count * sizeof(T), std::align_val_t{float_alignment}));
  }
  void deallocate(T* memory, std::size_t /*count*/) noexcept {
    ::operator delete (memory, std::align_val_t{float_alignment});
  }
  template <class U>
  bool operator==(const AlignedAllocator<U>& /*other*/) const noexcept {
    return true;
  }
};

/// Private (not shared) floats that start at float_alignment.
using AlignedFloats = std::vector<float, AlignedAllocator<float>>;

}  // namespace heddle

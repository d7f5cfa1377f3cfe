#pragma once

// What a mechanism must offer so that it can be a named object of a segment, and what the
// directory records of it.

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>

#include "heddle/shm/peers.hpp"

namespace heddle {

/// Stored in the directory: never renumber.
enum class ObjectKind : std::uint32_t {
  buffer = 1,
  slot = 2,
  task_queue = 3,
  barrier = 4,
  board = 5,
  group = 6
};

const char* to_string(ObjectKind kind) noexcept;

/// The element of a slot, queue or buffer, as the directory records it, so that attaching with
/// another type is an error and not garbage.
struct ElementType {
  std::uint32_t size;
  std::uint32_t alignment;
  char name[24];  ///< "float32", ...; "struct" for types of the user's

  friend bool operator==(const ElementType&, const ElementType&) = default;
};

template <class T>
constexpr ElementType element_type() {
  static_assert(std::is_trivially_copyable_v<T>, "shared memory holds trivially copyable types");
  ElementType type{sizeof(T), alignof(T), {}};
  std::string_view name = "struct";
  if constexpr (std::is_same_v<T, std::byte>) name = "bytes";
  if constexpr (std::is_same_v<T, float>) name = "float32";
  if constexpr (std::is_same_v<T, double>) name = "float64";
  if constexpr (std::is_integral_v<T>) {
    constexpr bool is_signed = std::is_signed_v<T>;
    name = sizeof(T) == 1   ? (is_signed ? "int8" : "uint8")
           : sizeof(T) == 2 ? (is_signed ? "int16" : "uint16")
           : sizeof(T) == 4 ? (is_signed ? "int32" : "uint32")
                            : (is_signed ? "int64" : "uint64");
  }
  for (std::size_t i = 0; i < name.size(); ++i) type.name[i] = name[i];
  return type;
}

/// A mechanism M that lives in a block of shared memory:
///   M::Options                 what its size depends on
///   M::kind, M::element()      what the directory records
///   M::bytes(options)          its size in bytes; throws Error{invalid_argument} for bad options
///   M::format(memory, options) makes a new one in zeroed memory, 64-byte aligned
///   M(memory, peers)           attaches; checks what it reads; throws Error{corrupt}
/// and may offer, where other options can have the same size, or the size says little:
///   M::difference(memory, options)  how it was made otherwise, as in "it has 4 elements, not 3"
template <class M>
concept SharedObject = requires(const typename M::Options& options, std::span<std::byte> memory,
                                Peers& peers) {
  { M::kind } -> std::convertible_to<ObjectKind>;
  { M::element() } -> std::same_as<ElementType>;
  { M::bytes(options) } -> std::same_as<std::size_t>;
  {M::format(memory, options)};
  {M(memory, peers)};
};

}  // namespace heddle

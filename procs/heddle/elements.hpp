#pragma once

// Slots whose element type is known only when the program runs: what the types are called, and how their
// elements stand in text.

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "heddle/shm/object.hpp"

namespace heddle {

struct ElementForm {
  std::string name;     ///< "f32"
  std::string npy;      ///< "<f4", as .npy files call it
  ElementType type;     ///< as the directory has it
  std::size_t printed;  ///< bytes that are printed as one number
  /// Appends the element that `word` is; false when it is none. Null for a struct.
  bool (*parse)(std::string_view word, std::vector<std::byte>& to);
  /// Appends them, `between` each two. JSON has no word for infinity and the like but null.
  void (*print)(std::span<const std::byte> elements, std::string_view between, bool json,
                std::string& to);

  bool is_struct() const { return parse == nullptr; }
};

/// The type of this name. Throws Error{invalid_argument} that lists them.
const ElementForm& element_named(std::string_view name);
/// The type of an .npy file. Throws Error{bad_data} that lists them.
const ElementForm& element_of_npy(std::string_view descr);
/// What a directory has recorded. Types of a program's own are structs, and printed as their bytes.
ElementForm element_recorded(const ElementType& type);

/// A value on its way into a slot.
struct SlotValue {
  ElementForm form;
  std::vector<std::byte> bytes;

  std::size_t count() const { return bytes.size() / form.type.size; }
};

}  // namespace heddle

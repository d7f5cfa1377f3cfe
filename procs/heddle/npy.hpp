#pragma once

// NumPy's array files (numpy.lib.format), as far as a slot goes: numbers, little-endian, in C order. A slot is
// flat: an array of any shape becomes its elements in order, and what is written has the shape (N,).

#include <optional>
#include <string>

#include "elements.hpp"
#include "streams.hpp"

namespace heddle {

/// The next array of a stream of files, format 1.0 or 2.0; nothing after the last. Throws
/// Error{bad_data} that says what is wrong with it.
std::optional<SlotValue> read_npy(Input& input);

/// A file of format 1.0.
std::string write_npy(const SlotValue& value);

}  // namespace heddle

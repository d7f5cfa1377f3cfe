#pragma once

// Dataset: samples with labels in private memory, and the embedded handwritten digits.
//
// Who may call    anyone; a loaded data set is only read
// State           values: one row for each sample, `stride` floats apart, zeroes after `features`
// Invariants      DATA-1  every row starts at float_alignment
//                 DATA-2  every label is below `classes`; every value of the digits is in [0, 1]
//                 DATA-3  what is loaded has the checksum that the file states, or nothing is
// Errors          read_digits, load_digits throw Error: the file, what is wrong, what to do

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "heddle/train/aligned.hpp"

namespace heddle {

struct Dataset {
  Dataset() = default;
  /// Zeroes: the caller fills rows and labels.
  Dataset(std::size_t sample_count, std::size_t feature_count, std::size_t class_count)
      : samples(sample_count),
        features(feature_count),
        stride(align_up(feature_count)),  // DATA-1
        classes(class_count),
        values(samples * stride),
        labels(samples) {}

  std::span<const float> row(std::size_t sample) const {
    return {values.data() + sample * stride, features};
  }
  std::span<float> row(std::size_t sample) { return {values.data() + sample * stride, features}; }

  std::size_t samples = 0;
  std::size_t features = 0;
  std::size_t stride = 0;
  std::size_t classes = 0;
  AlignedFloats values;
  std::vector<std::uint32_t> labels;
};

struct SplitData {
  Dataset train;
  Dataset test;
};

/// The digits of data/README.md from one file.
SplitData read_digits(const std::filesystem::path& file);

/// The digits from the first of: $HEDDLE_DATA_DIR when it is set (and nowhere else then),
/// ../share/heddle beside the folder of the running program, the source tree of this build.
SplitData load_digits();

/// The order of the samples 0 … out.size()-1 in one epoch. Depends on its arguments only, on every
/// machine; every order is as likely as any other. At most 2^32 - 1 samples.
void permutation(std::uint64_t seed, std::uint64_t epoch, std::span<std::uint32_t> out);

}  // namespace heddle

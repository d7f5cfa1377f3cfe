#include "heddle/train/dataset.hpp"

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <numeric>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "heddle/base/error.hpp"
#include "heddle/train/random.hpp"

namespace heddle {
namespace {

namespace fs = std::filesystem;
using Bytes = std::vector<std::uint8_t>;

constexpr const char* file_name = "digits.bin";
constexpr std::string_view magic = "HDLDIGIT";
constexpr std::uint32_t format_version = 1;
constexpr std::size_t header_bytes = 28;
constexpr std::size_t checksum_bytes = 8;
constexpr std::uintmax_t largest_file = 64U << 20U;
constexpr unsigned largest_pixel = 16;

std::string quoted(const fs::path& path) { return '"' + path.string() + '"'; }

[[noreturn]] void bad_file(const fs::path& file, const std::string& what) {
  throw Error(Errc::bad_data, "data file " + quoted(file) + " " + what +
                                  ": restore it, or set HEDDLE_DATA_DIR to the folder of a good " +
                                  file_name);
}

std::string hex(std::uint64_t value) {
  std::array<char, 19> text{};
  std::snprintf(text.data(), text.size(), "0x%016llx", static_cast<unsigned long long>(value));
  return text.data();
}

std::uint64_t little_endian(const Bytes& bytes, std::size_t at, std::size_t size) {
  std::uint64_t value = 0;
  for (std::size_t i = size; i-- > 0;) value = value << 8U | bytes[at + i];
  return value;
}

std::size_t field(const Bytes& bytes, std::size_t at) {
  return static_cast<std::size_t>(little_endian(bytes, at, 4));
}

std::uint64_t fnv1a(std::span<const std::uint8_t> bytes) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const std::uint8_t byte : bytes) hash = (hash ^ byte) * 0x100000001b3;
  return hash;
}

Bytes read_file(const fs::path& file) {
  std::error_code failure;
  const fs::file_status status = fs::status(file, failure);
  if (status.type() == fs::file_type::not_found) {
    throw Error(Errc::not_found, "there is no data file " + quoted(file) +
                                     ": set HEDDLE_DATA_DIR to the folder that holds " + file_name);
  }
  if (failure) throw_system_error("cannot look at data file " + quoted(file), failure.value());
  if (!fs::is_regular_file(status)) bad_file(file, "is not a regular file");

  errno = 0;
  std::ifstream stream(file, std::ios::binary);
  if (!stream) throw_system_error("cannot open data file " + quoted(file), errno ? errno : EIO);
  const std::uintmax_t size = fs::file_size(file, failure);
  if (failure) throw_system_error("cannot look at data file " + quoted(file), failure.value());
  if (size > largest_file) bad_file(file, "is too large (" + std::to_string(size) + " bytes)");

  Bytes bytes(static_cast<std::size_t>(size));
  stream.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(size));
  if (static_cast<std::uintmax_t>(stream.gcount()) != size) bad_file(file, "cannot be read whole");
  return bytes;
}

Dataset decode(const fs::path& file, std::span<const std::uint8_t> records, Dataset data) {
  for (std::size_t sample = 0; sample < data.samples; ++sample) {
    const auto record = records.subspan(sample * (data.features + 1), data.features + 1);
    const std::span<float> row = data.row(sample);
    for (std::size_t i = 0; i < data.features; ++i) {
      if (record[i] > largest_pixel) {
        bad_file(file, "has a pixel of " + std::to_string(record[i]) + ", above " +
                           std::to_string(largest_pixel));
      }
      row[i] = static_cast<float>(record[i]) / largest_pixel;
    }
    const std::uint32_t label = record[data.features];
    if (label >= data.classes) {  // DATA-2
      bad_file(file, "has a label of " + std::to_string(label) + " with only " +
                         std::to_string(data.classes) + " classes");
    }
    data.labels[sample] = label;
  }
  return data;
}

fs::path program_folder() {
  std::error_code failure;
  const fs::path program = fs::read_symlink("/proc/self/exe", failure);
  return failure ? fs::path() : program.parent_path();
}

fs::path find_digits() {
  if (const char* folder = std::getenv("HEDDLE_DATA_DIR"); folder && *folder) {
    return fs::path(folder) / file_name;
  }
  std::vector<fs::path> places;
  if (const fs::path folder = program_folder(); !folder.empty()) {
    places.push_back(folder.parent_path() / "share" / "heddle" / file_name);
  }
#ifdef HEDDLE_DATA_SOURCE_DIR
  places.push_back(fs::path(HEDDLE_DATA_SOURCE_DIR) / file_name);
#endif
  std::string looked_at;
  for (const fs::path& place : places) {
    std::error_code failure;
    if (fs::exists(place, failure)) return place;
    looked_at += (looked_at.empty() ? " at " : " or ") + quoted(place);
  }
  throw Error(Errc::not_found, "there is no data file" + looked_at +
                                   ": set HEDDLE_DATA_DIR to the folder that holds " + file_name);
}

}  // namespace

SplitData read_digits(const fs::path& file) {
  const Bytes bytes = read_file(file);
  if (bytes.size() < header_bytes + checksum_bytes) {
    bad_file(file, "is too short (" + std::to_string(bytes.size()) + " bytes)");
  }
  if (std::string_view(reinterpret_cast<const char*>(bytes.data()), magic.size()) != magic) {
    bad_file(file, "does not begin with " + std::string(magic));
  }
  if (const std::size_t version = field(bytes, 8); version != format_version) {
    bad_file(file, "has format " + std::to_string(version) + ", this program reads format " +
                       std::to_string(format_version));
  }

  const std::size_t train = field(bytes, 12);
  const std::size_t test = field(bytes, 16);
  const std::size_t features = field(bytes, 20);
  const std::size_t classes = field(bytes, 24);
  // A label is one byte. With at most 4,096 features the product below stays within 2^46.
  if (train == 0 || test == 0 || features == 0 || features > 4096 || classes < 2 || classes > 256) {
    bad_file(file, "states impossible sizes");
  }
  const std::size_t record_bytes = features + 1;
  const std::size_t stated = header_bytes + (train + test) * record_bytes + checksum_bytes;
  if (bytes.size() != stated) {
    bad_file(file, "has " + std::to_string(bytes.size()) + " bytes where its header states " +
                       std::to_string(stated));
  }
  const std::span<const std::uint8_t> all(bytes);
  const std::uint64_t checksum = fnv1a(all.first(stated - checksum_bytes));
  if (const auto wanted = little_endian(bytes, stated - checksum_bytes, 8);
      checksum != wanted) {  // DATA-3
    bad_file(file, "is damaged (checksum " + hex(checksum) + ", stated " + hex(wanted) + ")");
  }

  const auto records = all.subspan(header_bytes);
  return {decode(file, records, Dataset(train, features, classes)),
          decode(file, records.subspan(train * record_bytes), Dataset(test, features, classes))};
}

SplitData load_digits() { return read_digits(find_digits()); }

void permutation(std::uint64_t seed, std::uint64_t epoch, std::span<std::uint32_t> out) {
  if (out.size() > std::numeric_limits<std::uint32_t>::max()) {
    throw Error(Errc::invalid_argument, "a permutation has at most 2^32 - 1 samples");
  }
  std::iota(out.begin(), out.end(), 0U);
  Random random(seed, Random::Purpose::shuffle, epoch);
  for (std::size_t left = out.size(); left > 1; --left) {  // Fisher-Yates
    std::swap(out[left - 1], out[random.below(static_cast<std::uint32_t>(left))]);
  }
}

}  // namespace heddle

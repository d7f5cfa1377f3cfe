#include "npy.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdint>

#include "heddle/base/error.hpp"

namespace heddle {
namespace {

constexpr std::string_view magic = "\x93NUMPY";
constexpr std::size_t longest_header = 1 << 20;
constexpr std::uint64_t most_elements = std::uint64_t{1} << 40;

[[noreturn]] void refuse(const std::string& what) { throw Error(Errc::bad_data, what); }

// The header is a dictionary as Python writes it: {'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }
class Header {
 public:
  explicit Header(std::string_view text) : left_(text) {
    expect('{');
    while (!take('}')) {
      const std::string_view key = quoted();
      expect(':');
      if (key == "descr") {
        descr = quoted();
      } else if (key == "fortran_order") {
        is_fortran = word() == "True";
      } else if (key == "shape") {
        shape();
      } else {
        refuse(fmt::format("its header has a key \"{}\", which is none of .npy's", key));
      }
      if (!take(',')) {
        expect('}');
        break;
      }
    }
    if (descr.empty() || !count) refuse("its header lacks \"descr\" or \"shape\"");
  }

  std::string_view descr;
  bool is_fortran = false;
  std::optional<std::uint64_t> count;

 private:
  void skip_blanks() {
    left_.remove_prefix(std::min(left_.find_first_not_of(" \n"), left_.size()));
  }
  bool take(char wanted) {
    skip_blanks();
    if (left_.empty() || left_.front() != wanted) return false;
    left_.remove_prefix(1);
    return true;
  }
  void expect(char wanted) {
    if (take(wanted)) return;
    refuse(fmt::format("its header has \"{}\" where a {} should be", left_.substr(0, 20), wanted));
  }
  std::string_view quoted() {
    expect('\'');
    const std::size_t end = std::min(left_.find('\''), left_.size());
    const std::string_view text = left_.substr(0, end);
    left_.remove_prefix(end);
    expect('\'');
    return text;
  }
  std::string_view word() {
    skip_blanks();
    const std::size_t end = std::min(left_.find_first_of(" ,)}"), left_.size());
    const std::string_view text = left_.substr(0, end);
    left_.remove_prefix(end);
    return text;
  }
  void shape() {
    count = 1;
    expect('(');
    while (!take(')')) {
      const std::string_view text = word();
      std::uint64_t dimension = 0;
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), dimension);
      if (error != std::errc() || end != text.data() + text.size()) {
        refuse(fmt::format("its shape has \"{}\" where a number should be", text));
      }
      if (dimension == 0) refuse("it has no elements");
      if (dimension > most_elements / *count) refuse("it has too many elements");
      *count *= dimension;
      if (!take(',')) {
        expect(')');
        break;
      }
    }
  }

  std::string_view left_;
};

}  // namespace

std::optional<SlotValue> read_npy(Input& input) {
  std::string start(magic.size() + 2, '\0');
  const std::size_t length = input.read(start.data(), start.size());
  if (length == 0) return std::nullopt;
  if (length < start.size() || !start.starts_with(magic)) {
    refuse("it is no .npy file: it does not begin as one");
  }
  const int major = static_cast<unsigned char>(start[magic.size()]);
  if (major != 1 && major != 2) {
    refuse(fmt::format("it is of format {}.{}, and can be of 1.0 or 2.0", major,
                       static_cast<int>(start[magic.size() + 1])));
  }
  std::uint32_t header_bytes = 0;
  const std::size_t width = major == 1 ? 2 : 4;
  if (input.read(&header_bytes, width) < width) refuse("it ends in its header");
  if (header_bytes > longest_header) {
    refuse(fmt::format("its header of {} bytes is longer than any", header_bytes));
  }
  std::string text(header_bytes, '\0');
  if (input.read(text.data(), text.size()) < text.size()) refuse("it ends in its header");
  const Header header(text);
  if (header.is_fortran)
    refuse("it is in Fortran order: convert it with numpy's ascontiguousarray()");

  SlotValue value{element_of_npy(header.descr), {}};
  const std::size_t bytes = *header.count * value.form.type.size;
  value.bytes = input.read_bytes(bytes);
  if (value.bytes.size() < bytes) {
    refuse(fmt::format("it ends after {} of {} bytes of numbers", value.bytes.size(), bytes));
  }
  return value;
}

std::string write_npy(const SlotValue& value) {
  std::string header = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({},), }}",
                                   value.form.npy, value.count());
  constexpr std::size_t fixed = magic.size() + 4;
  constexpr std::size_t alignment = 64;  // of the numbers, so that the file can be mapped
  header.resize((fixed + header.size() + alignment) / alignment * alignment - fixed - 1, ' ');
  header += '\n';
  std::string file(magic);
  file += {1, 0, static_cast<char>(header.size() & 0xff), static_cast<char>(header.size() >> 8)};
  file += header;
  return file.append(reinterpret_cast<const char*>(value.bytes.data()), value.bytes.size());
}

}  // namespace heddle

#pragma once

// The file behind a segment: made, reserved, named, opened, unlinked. Knows nothing of its content
// beyond the header.

#include <boost/interprocess/mapped_region.hpp>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "heddle/shm/file_descriptor.hpp"
#include "heddle/shm/layout.hpp"

namespace heddle {

/// Where the segment `name` has its file. Throws Error{invalid_argument} for a bad name.
std::string segment_path(std::string_view name);

/// The files of all segments whose names begin with `prefix`.
std::vector<std::string> segment_paths(std::string_view prefix);

/// A new file of `bytes` zeroes without a name, all blocks reserved. In tmpfs' own name space, or
/// private to the processes that inherit it. Throws Error{no_space} and says how much there is.
enum class FileFor { naming, inheriting };
FileDescriptor make_segment_file(FileFor purpose, std::size_t bytes);

/// Gives a nameless file its name; false if the name is taken.
bool name_segment_file(int fd, const std::string& path);

/// Opens the file at `path`, nothing if there is none. Throws Error{permission} if it is another
/// user's.
enum class OpenFor { joining, observing };
std::optional<FileDescriptor> open_segment_file(const std::string& path,
                                                OpenFor purpose = OpenFor::joining);

/// Maps its first bytes. Throws Error with what the system says.
boost::interprocess::mapped_region map_segment_file(int fd, boost::interprocess::mode_t mode,
                                                    std::size_t bytes);

/// Whether `path` names the file behind `fd` now.
bool is_named(int fd, const std::string& path);

/// The header, checked. Throws Error{corrupt, layout_mismatch} that calls the file `what`. The
/// atomic members are not read.
struct CheckedHeader {
  std::size_t total_bytes;
  std::size_t heap_offset;
  std::uint32_t participants;
  std::uint32_t objects;
  std::string name;  ///< empty for an anonymous segment
};
CheckedHeader read_header(int fd, const std::string& what);

enum class Unlinked { removed, in_use, not_ours_anymore };
/// Unlinks `path` if it still names the file behind `fd` and nobody alive is in it.
Unlinked unlink_if_abandoned(int fd, const std::string& path);

}  // namespace heddle

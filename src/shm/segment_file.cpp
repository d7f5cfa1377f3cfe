#include "heddle/shm/segment_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "heddle/base/error.hpp"
#include "heddle/shm/liveness.hpp"

namespace heddle {
namespace {

constexpr const char* directory = "/dev/shm";
constexpr std::string_view file_prefix = "heddle.";
constexpr std::size_t longest_name = 48;

// The machine's memory that can be had without killing anybody.
std::uint64_t available_memory() {
  std::ifstream memory("/proc/meminfo");
  std::uint64_t available = UINT64_MAX;
  std::uint64_t swap = 0;
  for (std::string line; std::getline(memory, line);) {
    std::sscanf(line.c_str(), "MemAvailable: %" SCNu64 " kB", &available);
    std::sscanf(line.c_str(), "SwapFree: %" SCNu64 " kB", &swap);
  }
  return available == UINT64_MAX ? available : (available + swap) * 1024;
}

// The two versions of control groups: where they are mounted, and what their files are called.
struct ControlGroups {
  std::string_view marker;  // before the group's path in /proc/self/cgroup
  const char* root;
  const char* limit;
  const char* used;
  std::string_view cached[2];  // of `used`: the kernel drops them when it needs room
};
constexpr ControlGroups control_groups[] = {
    {"0::", "/sys/fs/cgroup", "/memory.max", "/memory.current", {"active_file", "inactive_file"}},
    {":memory:",
     "/sys/fs/cgroup/memory",
     "/memory.limit_in_bytes",
     "/memory.usage_in_bytes",
     {"total_active_file", "total_inactive_file"}}};

// What one control group may still take.
std::uint64_t memory_left(const ControlGroups& kind, const std::string& group) {
  std::uint64_t limit = 0;
  std::uint64_t used = 0;
  if (!(std::ifstream(group + kind.limit) >> limit)) return UINT64_MAX;  // "max", or no such file
  if (!(std::ifstream(group + kind.used) >> used)) return UINT64_MAX;
  std::ifstream statistics(group + "/memory.stat");
  std::uint64_t bytes = 0;
  for (std::string key; statistics >> key >> bytes;) {
    if (key == kind.cached[0] || key == kind.cached[1]) used -= std::min(used, bytes);
  }
  return limit > used ? limit - used : 0;
}

// The same for this process's control group and all above it, each of which limits it.
std::uint64_t memory_left_by_groups() {
  std::uint64_t left = UINT64_MAX;
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    for (const ControlGroups& kind : control_groups) {
      const std::size_t at = line.find(kind.marker);
      if (at == line.npos) continue;
      for (std::filesystem::path path = line.substr(at + kind.marker.size());;
           path = path.parent_path()) {
        left = std::min(left, memory_left(kind, kind.root + path.string()));
        if (path == path.parent_path()) break;
      }
    }
  }
  return left;
}

std::string megabytes(std::uint64_t bytes) { return std::to_string(bytes >> 20) + " MiB"; }

void check_room(std::uint64_t bytes, std::uint64_t left, const char* where) {
  if (bytes <= left) return;
  throw Error(Errc::no_space, "a segment of " + megabytes(bytes + (1 << 20) - 1) +
                                  " does not fit into " + where + ", which has " + megabytes(left) +
                                  " left: ask for less, or give it more");
}

std::uint64_t file_system_left(int fd) {
  struct statvfs space {};
  if (fstatvfs(fd, &space) != 0 || space.f_blocks == 0) return UINT64_MAX;  // 0: without a limit
  return std::uint64_t{space.f_bavail} * space.f_frsize;
}

// Without it a full file system shows up as SIGBUS at the first touch, and a memory limit as
// SIGKILL. The looks come first: to fill all there is and then give up would starve others.
void reserve(int fd, std::size_t bytes, const char* where) {
  check_room(bytes, file_system_left(fd), where);
  check_room(bytes, memory_left_by_groups(), "this control group's memory limit");
  check_room(bytes, available_memory(), "this machine's memory");
  if (ftruncate(fd, static_cast<off_t>(bytes)) != 0) {
    throw_system_error("cannot size a segment of " + megabytes(bytes), errno);
  }
  std::size_t piece = std::size_t{64} << 20;
  for (std::size_t done = 0; done < bytes;) {
    const std::size_t length = std::min(piece, bytes - done);
    const int error = posix_fallocate(fd, static_cast<off_t>(done), static_cast<off_t>(length));
    if (error == EINTR) {
      // A signal undoes the piece. A smaller one gets done between two ticks of a timer.
      piece = std::max(piece / 2, page_bytes);
      continue;
    }
    if (error == ENOSPC || error == ENOMEM) check_room(bytes, done, where);  // others took it
    if (error != 0) throw_system_error("cannot reserve memory for the segment", error);
    done += length;
  }
}

bool is_segment_name(std::string_view name) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  };
  return !name.empty() && name.size() <= longest_name && name.front() != '.' &&
         std::all_of(name.begin(), name.end(), allowed);
}

}  // namespace

std::string segment_path(std::string_view name) {
  if (!is_segment_name(name)) {
    throw Error(Errc::invalid_argument,
                "segment name \"" + std::string(name) + "\" must have 1 to " +
                    std::to_string(longest_name) +
                    " letters, digits, '.', '_' or '-', and not begin with '.'");
  }
  return std::string(directory) + "/" + std::string(file_prefix) + std::string(name);
}

std::vector<std::string> segment_paths(std::string_view prefix) {
  const std::string start = std::string(file_prefix) + std::string(prefix);
  std::vector<std::string> paths;
  std::error_code ignored;  // no such directory: no segments
  for (std::filesystem::directory_iterator entry(directory, ignored), end; entry != end;
       entry.increment(ignored)) {
    if (entry->path().filename().string().rfind(start, 0) == 0) paths.push_back(entry->path());
  }
  return paths;
}

FileDescriptor make_segment_file(FileFor purpose, std::size_t bytes) {
  const bool named = purpose == FileFor::naming;
  FileDescriptor file(named ? open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)
                            : memfd_create("heddle", MFD_CLOEXEC));
  if (file.get() < 0) {
    throw_system_error(named ? "cannot make a file in /dev/shm" : "cannot make a memory file",
                       errno);
  }
  reserve(file.get(), bytes, named ? directory : "memory");
  return file;
}

bool name_segment_file(int fd, const std::string& path) {
  const std::string nameless = "/proc/self/fd/" + std::to_string(fd);
  if (linkat(AT_FDCWD, nameless.c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW) == 0) {
    return true;
  }
  if (errno == EEXIST) return false;
  throw_system_error("cannot name the segment " + path, errno);
}

std::optional<FileDescriptor> open_segment_file(const std::string& path, OpenFor purpose) {
  const int mode = purpose == OpenFor::joining ? O_RDWR : O_RDONLY;
  FileDescriptor file(::open(path.c_str(), mode | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (file.get() < 0) {
    if (errno == ENOENT) return std::nullopt;
    if (errno == ELOOP || errno == EISDIR || errno == ENXIO) {
      throw Error(Errc::corrupt, path + " is not a file; remove it, or choose another name");
    }
    throw_system_error("cannot open " + path, errno);
  }
  struct stat status {};
  if (fstat(file.get(), &status) != 0) throw_system_error("cannot look at " + path, errno);
  if (!S_ISREG(status.st_mode)) {
    throw Error(Errc::corrupt, path + " is not a file; remove it, or choose another name");
  }
  if (status.st_uid != geteuid()) {
    throw Error(Errc::permission, path + " belongs to user " + std::to_string(status.st_uid) +
                                      "; choose another name");
  }
  return file;
}

// Boost's own file_mapping opens the file without O_CLOEXEC.
boost::interprocess::mapped_region map_segment_file(int fd, boost::interprocess::mode_t mode,
                                                    std::size_t bytes) {
  struct Mappable {
    boost::interprocess::mapping_handle_t get_mapping_handle() const { return {fd, false}; }
    int fd;
  };
  try {
    return boost::interprocess::mapped_region(Mappable{fd}, mode, 0, bytes);
  } catch (const boost::interprocess::interprocess_exception& failure) {
    throw_system_error("cannot map the segment", failure.get_native_error());
  }
}

bool is_named(int fd, const std::string& path) {
  struct stat by_name {};
  struct stat by_fd {};
  return stat(path.c_str(), &by_name) == 0 && fstat(fd, &by_fd) == 0 &&
         by_name.st_ino == by_fd.st_ino && by_name.st_dev == by_fd.st_dev;
}

CheckedHeader read_header(int fd, const std::string& what) {
  struct stat status {};
  if (fstat(fd, &status) != 0) throw_system_error("cannot look at " + what, errno);
  // By read and not by mapping: a file that shrinks now would be SIGBUS.
  alignas(SegmentHeader) std::byte image[sizeof(SegmentHeader)];
  const bool whole = pread(fd, image, sizeof image, 0) == static_cast<ssize_t>(sizeof image);
  const auto& header = *reinterpret_cast<const SegmentHeader*>(image);
  if (!whole || header.magic != segment_magic) {
    throw Error(Errc::corrupt,
                what + " is not a Heddle segment: choose another name, or remove it");
  }
  if (header.version != layout_version) {
    throw Error(Errc::layout_mismatch,
                what + " has layout " + std::to_string(header.version) + ", this program has " +
                    std::to_string(layout_version) +
                    ": rebuild the older program, or remove the segment when nobody uses it");
  }
  const std::uint64_t tables = page_bytes +
                               std::uint64_t{header.participants} * sizeof(ParticipantEntry) +
                               std::uint64_t{header.objects} * sizeof(DirectoryEntry);
  const char* name_end = std::find(std::begin(header.name), std::end(header.name), '\0');
  const std::string name(header.name, name_end);
  if ((!name.empty() && !is_segment_name(name)) || header.participants == 0 ||
      header.participants > max_participants || header.objects == 0 ||
      header.heap_offset % page_bytes != 0 || header.heap_offset < tables ||
      header.total_bytes < header.heap_offset ||
      header.total_bytes != static_cast<std::uint64_t>(status.st_size)) {
    throw Error(Errc::corrupt, what + " has a damaged header; remove it");
  }
  return {header.total_bytes, header.heap_offset, header.participants, header.objects, name};
}

Unlinked unlink_if_abandoned(int fd, const std::string& path) {
  // While this is held nobody is between opening and having joined, and a creator has joined
  // before the name existed: so nobody alive now means nobody can come in by this file any more.
  const NameLock removing(fd, NameLock::For::removing);
  if (any_token_held(fd)) return Unlinked::in_use;
  if (!is_named(fd, path)) return Unlinked::not_ours_anymore;
  if (unlink(path.c_str()) != 0) throw_system_error("cannot remove " + path, errno);
  return Unlinked::removed;
}

}  // namespace heddle

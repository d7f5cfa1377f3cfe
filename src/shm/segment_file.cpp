#include "heddle/shm/segment_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <fstream>

#include "heddle/base/error.hpp"
#include "heddle/shm/liveness.hpp"

namespace heddle {
namespace {

constexpr const char* directory = "/dev/shm";
constexpr std::string_view file_prefix = "heddle.";
constexpr std::size_t longest_name = 48;

// What this process's memory control group may still take, since the kernel kills for that, long
// after posix_fallocate has said yes. Unlimited when there is none. Cached files do not count as
// used: the kernel drops them when it needs room.
std::uint64_t memory_headroom() {
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    if (line.rfind("0::", 0) != 0) continue;
    const std::string group = "/sys/fs/cgroup" + line.substr(3);
    std::uint64_t limit = 0;
    std::uint64_t used = 0;
    if (!(std::ifstream(group + "/memory.max") >> limit)) break;  // "max", or no such file
    if (!(std::ifstream(group + "/memory.current") >> used)) break;
    std::ifstream statistics(group + "/memory.stat");
    std::uint64_t bytes = 0;
    for (std::string key; statistics >> key >> bytes;) {
      if (key == "active_file" || key == "inactive_file") used -= std::min(used, bytes);
    }
    return limit > used ? limit - used : 0;
  }
  return UINT64_MAX;
}

std::string megabytes(std::uint64_t bytes) {
  return std::to_string((bytes + (1 << 20) - 1) >> 20) + " MiB";
}

[[noreturn]] void throw_no_space(std::size_t bytes, const std::string& where, std::uint64_t left) {
  throw Error(Errc::no_space, "a segment of " + megabytes(bytes) + " does not fit into " + where +
                                  ", which has " + megabytes(left) +
                                  " left: ask for less, or give it more");
}

// Without it a full file system shows up as SIGBUS at the first touch.
void reserve(int fd, std::size_t bytes, const char* where) {
  if (const std::uint64_t left = memory_headroom(); left < bytes) {
    throw_no_space(bytes, "this control group's memory limit", left);
  }
  if (ftruncate(fd, static_cast<off_t>(bytes)) != 0) {
    throw_system_error("cannot size a segment of " + megabytes(bytes), errno);
  }
  constexpr std::size_t piece = std::size_t{64} << 20;  // a signal interrupts a piece, not all
  for (std::size_t done = 0; done < bytes;) {
    const std::size_t length = std::min(piece, bytes - done);
    const int error =
        posix_fallocate(fd, static_cast<off_t>(done), static_cast<off_t>(length));
    if (error == EINTR) continue;
    if (error == ENOSPC || error == ENOMEM) {
      struct statvfs space {};
      if (fstatvfs(fd, &space) != 0) space.f_bavail = 0;
      throw_no_space(bytes, where, std::uint64_t{space.f_bavail} * space.f_frsize + done);
    }
    if (error != 0) throw_system_error("cannot reserve memory for the segment", error);
    done += length;
  }
}

}  // namespace

FileDescriptor::~FileDescriptor() {
  if (fd_ >= 0) close(fd_);
}

std::string segment_path(std::string_view name) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           c == '.' || c == '_' || c == '-';
  };
  if (name.empty() || name.size() > longest_name || name.front() == '.' ||
      !std::all_of(name.begin(), name.end(), allowed)) {
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
  for (const auto& entry : std::filesystem::directory_iterator(directory, ignored)) {
    if (entry.path().filename().string().rfind(start, 0) == 0) paths.push_back(entry.path());
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

std::optional<FileDescriptor> open_segment_file(const std::string& path) {
  FileDescriptor file(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
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
    throw Error(Errc::corrupt, what + " is not a Heddle segment: choose another name, or remove it");
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
  if (header.participants == 0 || header.participants > max_participants || header.objects == 0 ||
      header.heap_offset % page_bytes != 0 || header.heap_offset < tables ||
      header.total_bytes < header.heap_offset ||
      header.total_bytes != static_cast<std::uint64_t>(status.st_size)) {
    throw Error(Errc::corrupt, what + " has a damaged header; remove it");
  }
  return {header.total_bytes, header.heap_offset, header.participants, header.objects};
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

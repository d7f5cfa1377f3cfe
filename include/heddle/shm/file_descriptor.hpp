#pragma once

#include <utility>

namespace heddle {

/// An owned file descriptor.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~FileDescriptor();
  int get() const noexcept { return fd_; }

 private:
  int fd_ = -1;
};

/// A second descriptor of the same open file description. Not inherited by exec.
FileDescriptor duplicate(int fd);

/// A new open file description, with locks of its own, of the file behind `fd`, whatever its name
/// is now. Not inherited by exec.
FileDescriptor reopen(int fd);

}  // namespace heddle

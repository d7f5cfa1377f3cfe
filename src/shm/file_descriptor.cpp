#include "heddle/shm/file_descriptor.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "heddle/base/error.hpp"

namespace heddle {

FileDescriptor::~FileDescriptor() {
  if (fd_ >= 0) close(fd_);
}

FileDescriptor duplicate(int fd) {
  FileDescriptor file(fcntl(fd, F_DUPFD_CLOEXEC, 3));
  if (file.get() < 0) {
    throw_system_error("cannot duplicate file descriptor " + std::to_string(fd), errno);
  }
  return file;
}

FileDescriptor reopen(int fd) {
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  FileDescriptor file(open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (file.get() < 0) throw_system_error("cannot open the segment again as " + path, errno);
  return file;
}

}  // namespace heddle

#include "heddle/base/error.hpp"

#include <cerrno>
#include <system_error>

namespace heddle {

const char* to_string(Status status) noexcept {
  switch (status) {
    case Status::ready:
      return "ready";
    case Status::timeout:
      return "timeout";
    case Status::peer_died:
      return "peer_died";
    case Status::closed:
      return "closed";
    case Status::empty:
      return "empty";
    case Status::full:
      return "full";
    case Status::busy:
      return "busy";
    case Status::lost_lease:
      return "lost_lease";
    case Status::overtaken:
      return "overtaken";
    case Status::invalid:
      return "invalid";
    case Status::failed:
      return "failed";
    case Status::mismatch:
      return "mismatch";
    case Status::expired:
      return "expired";
  }
  return "unknown";
}

void throw_system_error(const std::string& doing, int error_number) {
  Errc code = Errc::system;
  if (error_number == EACCES || error_number == EPERM || error_number == EROFS)
    code = Errc::permission;
  if (error_number == ENOSPC || error_number == ENOMEM) code = Errc::no_space;
  if (error_number == ENOENT) code = Errc::not_found;
  throw Error(code, doing + ": " + std::generic_category().message(error_number));
}

}  // namespace heddle

#include "streams.hpp"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "heddle/base/error.hpp"

namespace heddle {
namespace {

FileDescriptor open_file(const std::string& file, int standard, int flags, const char* doing) {
  if (file == "-") return duplicate(standard);
  FileDescriptor opened(open(file.c_str(), flags | O_CLOEXEC, 0666));
  if (opened.get() < 0) throw_system_error(doing + (" \"" + file + "\""), errno);
  return opened;
}

}  // namespace

bool wait_for_descriptor(int fd, short events, std::int64_t nanoseconds, StopSignals& signals) {
  constexpr std::int64_t second = 1'000'000'000;
  const timespec time{nanoseconds / second, nanoseconds % second};
  pollfd ready[] = {{fd, events, 0}, {signals.fd(), POLLIN, 0}};
  ppoll(ready, 2, nanoseconds == for_ever ? nullptr : &time, nullptr);
  if (const int signal = signals.take()) throw Stopped{signal};
  return ready[0].revents != 0;
}

Input::Input(const std::string& file, StopSignals& signals)
    : file_(open_file(file, STDIN_FILENO, O_RDONLY, "cannot read")),
      name_(file == "-" ? "standard input" : "\"" + file + "\""),
      signals_(signals) {}

// More into the buffer; false at the end.
bool Input::fill() {
  buffer_.erase(0, std::exchange(used_, 0));
  constexpr std::size_t piece = 1 << 16;
  const std::size_t before = buffer_.size();
  for (;;) {
    if (!wait_for_descriptor(file_.get(), POLLIN, for_ever, signals_)) continue;
    buffer_.resize(before + piece);
    const ssize_t length = ::read(file_.get(), buffer_.data() + before, piece);
    buffer_.resize(before + static_cast<std::size_t>(std::max<ssize_t>(length, 0)));
    if (length >= 0) return length != 0;
    if (errno != EINTR && errno != EAGAIN) throw_system_error("cannot read " + name_, errno);
  }
}

std::size_t Input::read(void* to, std::size_t bytes) {
  std::size_t done = 0;
  while (done < bytes) {
    if (used_ == buffer_.size() && !fill()) break;
    const std::size_t part = std::min(bytes - done, buffer_.size() - used_);
    std::memcpy(static_cast<char*>(to) + done, buffer_.data() + used_, part);
    used_ += part;
    done += part;
  }
  return done;
}

std::vector<std::byte> Input::read_bytes(std::size_t most) {
  std::vector<std::byte> bytes;
  while (bytes.size() < most) {
    const std::size_t before = bytes.size();
    const std::size_t piece = std::min<std::size_t>(most - before, 1 << 20);
    bytes.resize(before + piece);
    const std::size_t length = read(&bytes[before], piece);
    bytes.resize(before + length);
    if (length < piece) break;
  }
  return bytes;
}

std::optional<std::string> Input::line() {
  std::size_t searched = 0;  // of what is not used yet
  for (;;) {
    const std::size_t end = buffer_.find('\n', used_ + searched);
    if (end == buffer_.npos) {
      searched = buffer_.size() - used_;
      if (fill()) continue;
      if (buffer_.empty()) return std::nullopt;
    }
    std::string text = buffer_.substr(used_, end - used_);
    used_ = std::min(buffer_.size(), used_ + text.size() + 1);
    return text;
  }
}

Output::Output(const std::string& file, StopSignals& signals)
    : file_(open_file(file, STDOUT_FILENO, O_WRONLY | O_CREAT | O_TRUNC, "cannot write")),
      name_(file == "-" ? "standard output" : "\"" + file + "\""),
      signals_(signals) {}

void Output::write(std::string_view text) {
  while (!text.empty()) {
    if (!wait_for_descriptor(file_.get(), POLLOUT, for_ever, signals_)) continue;
    // What a pipe that is ready takes without blocking.
    const ssize_t written =
        ::write(file_.get(), text.data(), std::min<std::size_t>(text.size(), PIPE_BUF));
    if (written > 0) text.remove_prefix(static_cast<std::size_t>(written));
    if (written >= 0 || errno == EINTR || errno == EAGAIN) continue;
    if (errno == EPIPE) throw Stopped{SIGPIPE};
    throw_system_error("cannot write to " + name_, errno);
  }
}

void Output::pause(std::int64_t nanoseconds) {
  if (wait_for_descriptor(file_.get(), 0, nanoseconds, signals_)) throw Stopped{SIGPIPE};
}

}  // namespace heddle

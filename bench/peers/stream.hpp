#pragma once

// A pipe and a Unix stream socket, as the system makes them: the kernel copies the value in and out.
// A value larger than its buffer (64 KiB of a pipe) passes in pieces, while both sides work.

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "team.hpp"

namespace heddle::bench {

class Stream {
 public:
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream() {
    close(ends_.out);
    close(ends_.in);
  }
  void reset() {}

  class Writer {
   public:
    explicit Writer(Stream& stream) : fd_(stream.ends_.in) {}
    void publish(std::span<const std::uint64_t> value) {
      for (auto left = std::as_bytes(value); !left.empty();) {
        const ssize_t written = write(fd_, left.data(), left.size());
        if (written < 0) fail("write");
        left = left.subspan(static_cast<std::size_t>(written));
      }
    }

   private:
    int fd_;
  };

  class Reader {
   public:
    explicit Reader(Stream& stream) : fd_(stream.ends_.out), value_(stream.words_) {}
    bool poll() {
      const auto left = std::as_writable_bytes(std::span(value_)).subspan(got_);
      const ssize_t more = read(fd_, left.data(), left.size());
      if (more < 0 && errno == EAGAIN) return false;
      if (more < 0) fail("read");
      got_ = (got_ + static_cast<std::size_t>(more)) % (value_.size() * 8);
      return got_ == 0;
    }
    std::span<const std::uint64_t> value() const { return value_; }
    void release() {}

   private:
    int fd_;
    std::vector<std::uint64_t> value_;
    std::size_t got_ = 0;
  };

 protected:
  struct Ends {
    int out, in;
  };
  enum class Reading { polls, sleeps };

  Stream(Ends ends, std::size_t bytes, Reading reading) : ends_(ends), words_(bytes / 8) {
    if (reading == Reading::polls && fcntl(ends.out, F_SETFL, O_NONBLOCK) != 0) fail("fcntl");
  }
  [[noreturn]] static void fail(const char* call) {
    throw Failure(fmt::format("{}: {}", call, std::strerror(errno)));
  }

 private:
  Ends ends_;
  std::size_t words_;
};

class Pipe : public Stream {
 public:
  explicit Pipe(std::size_t bytes, Reading reading = Reading::polls)
      : Stream(make(), bytes, reading) {}

 private:
  static Ends make() {
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0) fail("pipe2");
    return {fds[0], fds[1]};
  }
};

class PipeAsleep : public Pipe {
 public:
  explicit PipeAsleep(std::size_t bytes) : Pipe(bytes, Reading::sleeps) {}
};

class UnixSocket : public Stream {
 public:
  explicit UnixSocket(std::size_t bytes) : Stream(make(), bytes, Reading::polls) {}

 private:
  static Ends make() {
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) fail("socketpair");
    return {fds[0], fds[1]};
  }
};

}  // namespace heddle::bench

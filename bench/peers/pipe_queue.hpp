#pragma once

// A pipe as a queue, with room for as many tasks as the others have. A task is written and read in one
// piece: the kernel does not mix writes of up to PIPE_BUF (4 KiB), and 64 bytes divide its pages.

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "queue_contender.hpp"

namespace heddle::bench {

class PipeQueue {
 public:
  PipeQueue() {
    if (pipe2(ends_, O_CLOEXEC | O_NONBLOCK) != 0) fail("pipe2");
    constexpr int bytes = queue_capacity * sizeof(Payload);
    if (fcntl(ends_[1], F_SETPIPE_SZ, bytes) != bytes) fail("F_SETPIPE_SZ");
  }
  ~PipeQueue() {
    close(ends_[0]);
    close(ends_[1]);
  }
  PipeQueue(const PipeQueue&) = delete;
  PipeQueue& operator=(const PipeQueue&) = delete;

  class Handle {
   public:
    explicit Handle(PipeQueue& queue) : out_(queue.ends_[0]), in_(queue.ends_[1]) {}

    bool push(const Payload& payload) {
      return passed("write", write(in_, &payload, sizeof(payload)));
    }

    template <class Use>
    bool take(Use&& use) {
      Payload payload;
      if (!passed("read", read(out_, &payload, sizeof(payload)))) return false;
      use(payload);
      return true;
    }

   private:
    static bool passed(const char* call, ssize_t bytes) {
      if (bytes == sizeof(Payload)) return true;
      if (bytes < 0 && errno == EAGAIN) return false;
      fail(call);
    }

    int out_, in_;
  };

 private:
  [[noreturn]] static void fail(const char* call) {
    throw Failure(fmt::format("{}: {}", call, std::strerror(errno)));
  }

  int ends_[2];
};

}  // namespace heddle::bench

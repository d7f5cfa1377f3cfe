#pragma once

// Another program that a peer needs. It ends when this does, and when the benchmark is killed.

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>

#include "team.hpp"

namespace heddle::bench {

class Daemon {
 public:
  /// A child, which `execute` turns into the program. Returns when it has said `ready`.
  template <class Execute>
  Daemon(const char* name, const char* ready, Execute&& execute) {
    int out[2];
    if (pipe2(out, O_CLOEXEC) != 0) throw Failure(fmt::format("pipe2: {}", strerror(errno)));
    out_ = out[0];
    const pid_t parent = getpid();
    pid_ = fork();
    if (pid_ < 0) throw Failure(fmt::format("fork: {}", strerror(errno)));
    if (pid_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGTERM);
      if (getppid() != parent) _exit(1);
      dup2(out[1], STDOUT_FILENO);
      dup2(out[1], STDERR_FILENO);
      execute();
      dprintf(STDOUT_FILENO, "%s", strerror(errno));
      _exit(127);
    }
    close(out[1]);
    if (std::string said; !says(ready, said)) {
      end();
      throw Failure(fmt::format("{} did not start: {}", name, last_line(said)));
    }
  }
  ~Daemon() { end(); }
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  /// Until it has ended by itself, but not for long.
  void wait(std::chrono::milliseconds patience) {
    const int fd = static_cast<int>(syscall(SYS_pidfd_open, pid_, 0));
    pollfd ended{fd, POLLIN, 0};
    poll(&ended, 1, static_cast<int>(patience.count()));
    close(fd);
  }

 private:
  bool says(const char* ready, std::string& said) const {
    std::array<char, 256> piece;
    while (said.find(ready) == std::string::npos) {
      const ssize_t size = read(out_, piece.data(), piece.size());
      if (size <= 0) return false;
      said.append(piece.data(), static_cast<std::size_t>(size));
    }
    return true;
  }
  static std::string last_line(std::string said) {
    said.erase(said.find_last_not_of('\n') + 1);
    return said.substr(said.rfind('\n') + 1);
  }
  void end() const {
    kill(pid_, SIGTERM);
    waitpid(pid_, nullptr, 0);
    close(out_);
  }

  pid_t pid_;
  int out_;
};

/// One daemon of a kind, for as long as somebody needs it.
template <class Kind>
std::shared_ptr<Kind> running() {
  static std::weak_ptr<Kind> the_one;
  std::shared_ptr<Kind> daemon = the_one.lock();
  if (daemon == nullptr) the_one = daemon = std::make_shared<Kind>();
  return daemon;
}

}  // namespace heddle::bench

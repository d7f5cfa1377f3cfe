#include "guardian.hpp"

#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "heddle/base/error.hpp"

namespace heddle {
namespace {

constexpr std::size_t page = Guardian::most * sizeof(std::atomic<pid_t>);

}  // namespace

Guardian::Guardian() {
  void* memory = mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw_system_error("cannot map a page for a guardian", errno);
  groups_ = static_cast<std::atomic<pid_t>*>(memory);
  start();
}

Guardian::~Guardian() {
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  munmap(groups_, page);
}

void Guardian::watch(std::size_t place, pid_t group) noexcept { groups_[place] = group; }

void Guardian::look_after() {
  if (pid_ < 0 || waitpid(pid_, nullptr, WNOHANG) == pid_) start();
}

void Guardian::start() {
  const pid_t parent = getpid();
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);  // for good in the guardian
  pid_ = fork();
  const int error = errno;
  if (pid_ == 0) keep_watch(parent);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (pid_ < 0) throw_system_error("cannot start a guardian", error);
}

// In the child. Async-signal-safe calls only.
void Guardian::keep_watch(pid_t parent) const noexcept {
  setpgid(0, 0);  // what a terminal or a shell sends to all is not for it
  const int watched = static_cast<int>(syscall(SYS_pidfd_open, parent, 0));
  if (watched > 0) syscall(SYS_close_range, 0U, static_cast<unsigned>(watched) - 1U, 0);
  syscall(SYS_close_range, static_cast<unsigned>(watched) + 1U, ~0U, 0);
  pollfd ended{watched, POLLIN, 0};
  while (getppid() == parent && poll(&ended, 1, watched < 0 ? 100 : -1) != 1) {
  }
  for (std::size_t place = 0; place < most; ++place) {
    if (const pid_t group = groups_[place]; group > 1) kill(-group, SIGKILL);
  }
  _exit(0);
}

}  // namespace heddle

#include "heddle/run/stop_signals.hpp"

#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>

#include "heddle/base/error.hpp"

namespace heddle {

StopSignals::StopSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  struct sigaction hangup {};
  sigaction(SIGHUP, nullptr, &hangup);
  if (hangup.sa_handler != SIG_IGN) sigaddset(&set, SIGHUP);

  file_ = FileDescriptor(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (file_.get() < 0) throw_system_error("cannot watch for signals", errno);
  pthread_sigmask(SIG_BLOCK, &set, &before_);
}

StopSignals::~StopSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

int StopSignals::take() noexcept {
  signalfd_siginfo signal;
  const bool taken = read(file_.get(), &signal, sizeof signal) == ssize_t{sizeof signal};
  return taken ? static_cast<int>(signal.ssi_signo) : 0;
}

}  // namespace heddle

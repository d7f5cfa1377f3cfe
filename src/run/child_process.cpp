#include "heddle/run/child_process.hpp"

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "heddle/base/error.hpp"

namespace heddle {
namespace {

std::vector<char*> pointers_to(const std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  pointers.reserve(strings.size() + 1);
  for (const std::string& string : strings) pointers.push_back(const_cast<char*>(string.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

}  // namespace

// execvp looks it up itself, but need not be async-signal-safe.
std::string find_program(const std::string& name) {
  if (name.find('/') != std::string::npos) return name;
  const char* path = std::getenv("PATH");
  std::string_view folders = path != nullptr ? path : "/usr/local/bin:/usr/bin:/bin";
  while (!folders.empty()) {
    const std::size_t end = std::min(folders.find(':'), folders.size());
    std::string candidate = std::string(folders.substr(0, end)) + "/" + name;
    std::error_code ignored;
    if (access(candidate.c_str(), X_OK) == 0 &&
        std::filesystem::is_regular_file(candidate, ignored)) {
      return candidate;
    }
    folders.remove_prefix(std::min(end + 1, folders.size()));
  }
  throw Error(Errc::not_found, "there is no program \"" + name + "\" in PATH");
}

ChildProcess::ChildProcess(const Launch& launch) : program_(launch.program), parent_(getpid()) {
  // All that allocates comes before the fork: another thread may hold malloc's lock right then.
  const std::vector<char*> arguments = pointers_to(launch.arguments);
  const std::vector<char*> environment = pointers_to(launch.environment);
  void* page =
      mmap(nullptr, sizeof(Failure), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) throw_system_error("cannot map a page for a new process", errno);
  failure_ = static_cast<Failure*>(page);

  // No handler of this program may run in the child before they are reset there.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pid_ = fork();
  int error = errno;
  if (pid_ == 0) become(launch, arguments.data(), environment.data(), parent_);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);

  if (pid_ > 0) {
    if (launch.own_group) setpgid(pid_, pid_);  // as the child does: whoever comes first
    pidfd_ = FileDescriptor(static_cast<int>(syscall(SYS_pidfd_open, pid_, 0)));
    if (pidfd_.get() >= 0) return;
    error = errno;
    kill(pid_, SIGKILL);
    while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  munmap(failure_, sizeof(Failure));
  throw_system_error("cannot start a process", error);
}

// In the child. Async-signal-safe calls only.
void ChildProcess::become(const Launch& launch, char* const* arguments, char* const* environment,
                          pid_t parent) noexcept {
  const auto require = [this](bool done, const char* step) {
    if (done) return;
    *failure_ = {step, errno};
    _exit(127);
  };
  require(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0, "cannot tie it to this process");
  if (getppid() != parent) _exit(127);  // it died before that; nobody waits for us
  require(!launch.own_group || setpgid(0, 0) == 0, "cannot have a process group of its own");

  for (int number = 1; number < NSIG; ++number) {
    const bool from_terminal = !launch.own_group && (number == SIGINT || number == SIGHUP);
    signal(number, from_terminal ? SIG_IGN : SIG_DFL);
  }
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);

  const int input = launch.input >= 0 ? launch.input : open("/dev/null", O_RDONLY);
  require(input == 0 || dup2(input, 0) == 0, "cannot give it an input");
  require(launch.output < 0 || dup2(launch.output, 1) == 1, "cannot take its output");
  require(syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC) == 0,
          "cannot close inherited descriptors (Linux before 5.11?)");
  if (launch.inherited_fd >= 0) {
    require(fcntl(launch.inherited_fd, F_SETFD, 0) == 0, "cannot hand the segment on");
  }
  if (launch.cores) {
    require(sched_setaffinity(0, sizeof(cpu_set_t), &*launch.cores) == 0,
            "cannot pin it to its core");
  }
  execve(launch.program.c_str(), arguments, environment);
  require(false, "cannot execute it");
  _exit(127);
}

ChildProcess::~ChildProcess() {
  // In a forked copy of the parent, this child is a sibling: not its own to end.
  if (!is_reaped_ && getpid() == parent_) {
    send(SIGKILL);
    reap();
  }
  munmap(failure_, sizeof(Failure));
}

bool ChildProcess::has_ended() const noexcept {
  pollfd ended{pidfd_.get(), POLLIN, 0};
  return poll(&ended, 1, 0) == 1;
}

void ChildProcess::send(int signal) const noexcept {
  syscall(SYS_pidfd_send_signal, pidfd_.get(), signal, nullptr, 0);
}

void ChildProcess::send_all(int signal) const noexcept {
  if (!is_reaped_) kill(-pid_, signal);  // until then the number is its group's, if it has one
}

Ending ChildProcess::reap() noexcept {
  siginfo_t info{};
  while (waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED) != 0) {
    if (errno == EINTR) continue;
    info.si_code = CLD_EXITED;  // somebody else has reaped it: its code is lost
    info.si_status = -1;
    break;
  }
  is_reaped_ = true;
  Ending ending;
  (info.si_code == CLD_EXITED ? ending.code : ending.signal) = info.si_status;
  if (failure_->step != nullptr) {
    ending.not_started =
        program_ + ": " + failure_->step + ": " + std::generic_category().message(failure_->error);
  }
  return ending;
}

}  // namespace heddle

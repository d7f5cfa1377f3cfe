#include "team.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <exception>

namespace heddle::bench {
namespace {

constexpr std::chrono::seconds member_patience{10};
constexpr std::chrono::seconds team_patience{12};  // members give up first and say on what

enum : std::uint32_t { gate_ready, gate_begin, gate_done, gate_leave, gates };

/// Passed when all have come; those who wait sleep, and leave the cores to the ping-pong.
struct Gate {
  Atomic<std::uint32_t> came;
  Atomic<std::uint32_t> open;
};

std::vector<int> allowed_processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  sched_getaffinity(0, sizeof(set), &set);
  std::vector<int> list;
  for (int i = 0; i < CPU_SETSIZE; ++i) {
    if (CPU_ISSET(i, &set)) list.push_back(i);
  }
  if (list.empty()) list.push_back(0);
  return list;
}

std::string how_it_ended(int status) {
  if (WIFSIGNALED(status)) {
    return fmt::format("was killed by signal {} ({})", WTERMSIG(status),
                       strsignal(WTERMSIG(status)));
  }
  return fmt::format("ended with code {}", WEXITSTATUS(status));
}

}  // namespace

struct TeamControl {
  std::array<Gate, gates> gate;
  Atomic<std::uint32_t> started;
  Distance distance;
  std::int64_t deadline_ns;
  Atomic<std::uint32_t> failed;     // the first to fail writes the message,
  Atomic<std::uint32_t> explained;  // and then sets this
  std::array<char, 400> message;
  alignas(64) Atomic<std::uint64_t> ping;
  alignas(64) Atomic<std::uint64_t> pong;
};

const std::vector<int>& processors() {
  static const std::vector<int> list = allowed_processors();
  return list;
}

void* map_shared(std::size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED) {
    throw Failure(fmt::format("no {} bytes of shared memory: {}", bytes, strerror(errno)));
  }
  return memory;
}

Member::Member(TeamControl& control, int rank, int size, std::chrono::nanoseconds length)
    : control_(control),
      rank_(rank),
      size_(size),
      length_(length),
      patience_(processors().size() < 2 ? 1 : 1024) {
  cpu_set_t set;
  CPU_ZERO(&set);
  const auto place = static_cast<std::size_t>(rank) % processors().size();
  CPU_SET(static_cast<std::size_t>(processors()[place]), &set);
  sched_setaffinity(0, sizeof(set), &set);
}

void Member::start() {
  pass(gate_ready, "the others to be ready");
  ping_pong(control_.distance.before_ns);
  pass(gate_begin, "the ping-pong before the sample");
  control_.started.fetch_add(1, relaxed);
  spin_until("the others to start",
             [&] { return control_.started.load(relaxed) == static_cast<std::uint32_t>(size_); });
  end_ = ticks_before() + ticks_in(length_);
}

void Member::stop() {
  pass(gate_done, "the others to be done");
  ping_pong(control_.distance.after_ns);
  pass(gate_leave, "the ping-pong after the sample");
  stopped_ = true;
}

void Member::ping_pong(double& round_trip_ns) {
  constexpr std::size_t batches = 15;  // their median: some may be disturbed
  constexpr std::uint64_t rallies = 40;
  if (size_ < 2 || rank_ > 1) return;

  std::array<double, batches> times;
  for (double& time : times) {
    const std::uint64_t start = ticks_before();
    for (std::uint64_t i = 0; i < rallies; ++i) {
      ++rallies_;
      if (rank_ == 0) {
        control_.ping.store(rallies_, relaxed);
        poll_until("a pong", [&] { return control_.pong.load(relaxed) == rallies_; });
      } else {
        poll_until("a ping", [&] { return control_.ping.load(relaxed) == rallies_; });
        control_.pong.store(rallies_, relaxed);
      }
    }
    time = nanoseconds(static_cast<double>(ticks_after() - start)) / double{rallies};
  }
  std::ranges::nth_element(times, times.begin() + batches / 2);
  if (rank_ == 0) round_trip_ns = times[batches / 2];
}

void Member::pass(std::uint32_t number, const char* what) {
  Gate& gate = control_.gate[number];
  if (gate.came.fetch_add(1, acq_rel("BENCH.gate")) + 1 == static_cast<std::uint32_t>(size_)) {
    gate.open.store(1, release("BENCH.gate"));
    futex_wake(gate.open, all_sleepers);
    return;
  }
  while (gate.open.load(acquire("BENCH.gate")) == 0) {
    futex_wait(gate.open, 0, 100'000'000);
    if (monotonic_ns() > control_.deadline_ns) look_around(what);
  }
}

void Member::look_around(const char* what) {
  if (monotonic_ns() > control_.deadline_ns) {
    fail(fmt::format("process {} of {} waited {} s for {}", rank_, size_, member_patience.count(),
                     what));
  }
  yield();
}

void Member::fail(const std::string& message) {
  if (control_.failed.exchange(1, relaxed) == 0) {
    message.copy(control_.message.data(), control_.message.size() - 1);
    control_.explained.store(1, release("BENCH.message"));
  }
  _exit(1);
}

namespace {

/// The forked processes of one sample. Whatever happens, none is left when this is gone.
class Children {
 public:
  Children() = default;
  Children(const Children&) = delete;
  Children& operator=(const Children&) = delete;
  ~Children() {
    for (const Child& child : children_) {
      if (child.pid > 0) kill(child.pid, SIGKILL);
    }
    for (const Child& child : children_) {
      if (child.pid > 0) reap(child.pid);
      if (child.fd >= 0) close(child.fd);
    }
  }

  void add(pid_t pid) {
    children_.push_back({pid, -1});
    children_.back().fd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
    if (children_.back().fd < 0) throw Failure(fmt::format("pidfd_open: {}", strerror(errno)));
  }

  /// Until all have ended well; throws at the first that has not.
  void wait(const TeamControl& control) {
    const std::int64_t end =
        control.deadline_ns + std::chrono::nanoseconds(team_patience - member_patience).count();
    for (std::size_t running = children_.size(); running > 0;) {
      std::vector<pollfd> fds;
      for (const Child& child : children_) fds.push_back({child.fd, POLLIN, 0});
      const std::int64_t left_ms = (end - monotonic_ns()) / 1'000'000;
      if (left_ms <= 0) throw Failure("the processes of a sample did not end in time");
      poll(fds.data(), fds.size(), static_cast<int>(left_ms));

      for (std::size_t i = 0; i < fds.size(); ++i) {
        if ((fds[i].revents & POLLIN) == 0) continue;
        const int status = reap(children_[i].pid);
        close(children_[i].fd);
        children_[i] = {0, -1};  // poll() ignores negative descriptors
        --running;
        if (status == 0) continue;
        throw Failure(control.explained.load(acquire("BENCH.message")) != 0
                          ? std::string(control.message.data())
                          : fmt::format("process {} {}", i, how_it_ended(status)));
      }
    }
  }

 private:
  struct Child {
    pid_t pid;
    int fd;
  };
  static int reap(pid_t pid) {
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return status;
  }
  std::vector<Child> children_;
};

[[noreturn]] void be_member(Member member, const std::function<void(Member&)>& work) {
  try {
    work(member);
    if (!member.stopped()) member.fail("a contender did not call stop()");
  } catch (const std::exception& error) {
    member.fail(error.what());
  }
  _exit(0);  // no destructors or buffers of the parent's
}

}  // namespace

Distance run_team(int size, std::chrono::nanoseconds length,
                  const std::function<void(Member&)>& work) {
  Shared<TeamControl> control;
  control->deadline_ns =
      monotonic_ns() + length.count() + std::chrono::nanoseconds(member_patience).count();
  const pid_t parent = getpid();
  Children children;
  for (int rank = 0; rank < size; ++rank) {
    const pid_t pid = fork();
    if (pid < 0) throw Failure(fmt::format("fork: {}", strerror(errno)));
    if (pid == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (getppid() != parent) _exit(1);
      be_member(Member(*control, rank, size, length), work);
    }
    children.add(pid);
  }
  children.wait(*control);
  return control->distance;
}

}  // namespace heddle::bench

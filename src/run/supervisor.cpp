#include "heddle/run/supervisor.hpp"

#include <poll.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string_view>

#include "heddle/base/error.hpp"
#include "heddle/run/child_process.hpp"
#include "heddle/run/worker.hpp"
#include "heddle/shm/file_descriptor.hpp"

namespace heddle {
namespace {

constexpr std::int64_t millisecond = 1'000'000;
constexpr std::int64_t quick = 1000 * millisecond;  // who dies sooner after its start makes us wary

// The first restart comes at once, then 10 ms after the death, 20 ms, ... 1 s.
std::int64_t back_off(std::uint32_t quick_deaths) {
  if (quick_deaths < 2) return 0;
  return std::min(10 * millisecond << std::min(quick_deaths - 2, 7U), 1000 * millisecond);
}

cpu_set_t core_of(std::uint32_t rank) {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) {
    throw_system_error("cannot ask for the cores", errno);
  }
  auto left = rank % static_cast<std::uint32_t>(CPU_COUNT(&allowed));
  std::size_t core = 0;
  while (!CPU_ISSET(core, &allowed) || left-- > 0) ++core;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(core, &one);
  return one;
}

std::string describe(const Supervisor::Happening& worker) {
  using Kind = Supervisor::Happening::Kind;
  std::string text =
      "worker " + std::to_string(worker.rank) + " (process " + std::to_string(worker.pid) + ") ";
  if (worker.kind == Kind::started) return text + "started";
  if (worker.kind == Kind::finished) return text + "finished";
  if (worker.signal != 0) {
    return text + "was killed by signal " + std::to_string(worker.signal) + " (" +
           strsignal(worker.signal) + ")";
  }
  return text + "exited with code " + std::to_string(worker.code);
}

}  // namespace

struct Supervisor::Rank {
  EventRing events;
  std::uint32_t number;
  std::unique_ptr<ChildProcess> child = nullptr;
  bool is_finished = false;
  std::int64_t due = 0;  // when to start it, if it neither runs nor is finished
  std::int64_t started = 0;
  std::uint32_t quick_deaths = 0;  // in a row
};

std::size_t Supervisor::segment_bytes(std::uint32_t workers) {
  return workers * ((EventRing::bytes({}) + page_bytes - 1) / page_bytes * page_bytes);
}

Supervisor::Supervisor(Segment& segment, Options options)
    : segment_(segment), options_(std::move(options)), process_(getpid()) {
  if (options_.command.empty()) throw Error(Errc::invalid_argument, "a worker needs a command");
  if (options_.workers == 0 || options_.workers >= max_participants) {
    throw Error(Errc::invalid_argument, "a run has 1 to " + std::to_string(max_participants - 1) +
                                            " workers, not " + std::to_string(options_.workers));
  }
  program_ = find_program(options_.command.front());

  if (segment.name().empty()) segment_file_ = duplicate(segment.fd());
  struct sigaction children {};
  sigaction(SIGCHLD, nullptr, &children);
  if (children.sa_handler == SIG_IGN || (children.sa_flags & SA_NOCLDWAIT) != 0) {
    signal(SIGCHLD, SIG_DFL);  // or the kernel would reap them, exit codes and all
  }

  for (std::uint32_t number = 0; number < options_.workers; ++number) {
    EventRing events = segment.open<EventRing>(event_ring_name(number), {});
    for (WorkerEvent stale; events.pop(stale);) {  // of an earlier run in this segment
    }
    ranks_.push_back(Rank{events, number});
  }
}

Supervisor::~Supervisor() { stop(); }

EventRing& Supervisor::events(std::uint32_t rank) noexcept { return ranks_[rank].events; }

std::vector<Supervisor::Happening> Supervisor::poll(Deadline deadline) {
  std::vector<Happening> seen;
  while (state_ == State::running) {
    take_signals(seen);
    if (!seen.empty()) break;  // perhaps the end: start nobody before the caller has decided
    take_endings(seen);
    start_due(seen);
    if (!seen.empty() || deadline.left(monotonic_ns()) <= 0) break;
    wait(deadline);
  }
  return seen;
}

void Supervisor::stop() noexcept {
  if (getpid() != process_) return;  // a forked copy: these are not its children
  if (state_ == State::running) state_ = State::stopped;
  const auto send = [this](int signal) {
    for (const Rank& rank : ranks_) {
      if (rank.child) rank.child->send(signal);
    }
  };
  send(SIGTERM);
  Deadline deadline = Deadline::after(options_.grace);
  while (std::any_of(ranks_.begin(), ranks_.end(), [](const Rank& r) { return !!r.child; })) {
    if (deadline.left(monotonic_ns()) <= 0 || signals_.take() != 0) {
      send(SIGKILL);
      deadline = Deadline::never();
    }
    wait(deadline);
    for (Rank& rank : ranks_) {
      if (!rank.child || !rank.child->has_ended()) continue;
      recover(rank.child->pid());
      rank.child.reset();
    }
  }
}

void Supervisor::give_up(const std::string& why, std::vector<Happening>& seen) {
  state_ = State::failed;
  seen.push_back({Happening::Kind::gave_up, 0, 0, 0, 0, monotonic_ns(), why});
}

void Supervisor::start_due(std::vector<Happening>& seen) {
  for (Rank& rank : ranks_) {
    if (state_ != State::running) return;
    const std::int64_t now = monotonic_ns();
    if (rank.child || rank.is_finished || rank.due > now) continue;
    try {
      rank.child = std::make_unique<ChildProcess>(launch_of(rank.number));
    } catch (const Error& error) {
      give_up("worker " + std::to_string(rank.number) + ": " + error.what(), seen);
      return;
    }
    rank.started = now;
    Happening happening{Happening::Kind::started, rank.number, rank.child->pid(), 0, 0, now, {}};
    happening.text = describe(happening);
    seen.push_back(std::move(happening));
  }
}

void Supervisor::take_signals(std::vector<Happening>& seen) {
  while (const int number = signals_.take()) {
    seen.push_back({Happening::Kind::interrupted, 0, 0, number, 0, monotonic_ns(),
                    std::string("interrupted by signal ") + std::to_string(number) + " (" +
                        strsignal(number) + ")"});
  }
}

void Supervisor::take_endings(std::vector<Happening>& seen) {
  for (Rank& rank : ranks_) {
    if (state_ != State::running) return;
    if (!rank.child || !rank.child->has_ended()) continue;
    const pid_t pid = rank.child->pid();
    recover(pid);  // while it is a zombie, and nobody else can have its pid
    const Ending ending = rank.child->reap();
    rank.child.reset();
    if (!ending.not_started.empty()) {
      give_up("cannot start worker " + std::to_string(rank.number) + ": " + ending.not_started,
              seen);
      return;
    }
    const bool well = ending.signal == 0 && ending.code == 0;
    Happening happening{well ? Happening::Kind::finished : Happening::Kind::died,
                        rank.number,
                        pid,
                        ending.signal,
                        ending.code,
                        monotonic_ns(),
                        {}};
    happening.text = describe(happening);
    seen.push_back(happening);
    judge(rank, happening, seen);
  }
}

// What follows from a worker's end.
void Supervisor::judge(Rank& rank, const Happening& ending, std::vector<Happening>& seen) {
  if (ending.kind == Happening::Kind::finished) {
    rank.is_finished = true;
    const auto finished = [](const Rank& each) { return each.is_finished; };
    if (std::all_of(ranks_.begin(), ranks_.end(), finished)) state_ = State::finished;
    return;
  }
  if (ending.signal == 0 && ending.code == bad_input) {
    give_up(ending.text + ", which means that it would only fail again", seen);
    return;
  }
  if (restarts_ == options_.max_restarts) {
    give_up(ending.text + ", and all " + std::to_string(restarts_) + " restarts are used", seen);
    return;
  }
  ++restarts_;
  rank.quick_deaths = ending.at - rank.started < quick ? rank.quick_deaths + 1 : 0;
  rank.due = ending.at + back_off(rank.quick_deaths);
}

// A worker's liveness token goes with its memory, which is mostly gone when its pidfd says so, but
// is held longer by whoever is looking into /proc/PID just then.
void Supervisor::recover(pid_t pid) noexcept {
  const Deadline deadline = Deadline::after(std::chrono::milliseconds(100));
  for (;;) {
    segment_.recover_dead();
    const auto living = segment_.participants();
    const auto is_its = [pid](const auto& each) {
      return each.pid == static_cast<std::uint64_t>(pid);
    };
    if (std::none_of(living.begin(), living.end(), is_its)) return;
    if (deadline.left(monotonic_ns()) <= 0) return;  // others will find it dead when it is
    const timespec pause{0, millisecond / 10};
    nanosleep(&pause, nullptr);
  }
}

// Until something can be read, somebody is due, or the deadline.
void Supervisor::wait(Deadline deadline) noexcept {
  const std::int64_t now = monotonic_ns();
  std::int64_t left = deadline.left(now);
  std::vector<pollfd> watched{{signals_.fd(), POLLIN, 0}};
  for (const Rank& rank : ranks_) {
    if (rank.child) {
      watched.push_back({rank.child->pidfd(), POLLIN, 0});
    } else if (!rank.is_finished && state_ == State::running) {
      left = std::min(left, rank.due - now);
    }
  }
  left = std::max<std::int64_t>(left, 0);
  const timespec limit{left / (1000 * millisecond), left % (1000 * millisecond)};
  ppoll(watched.data(), watched.size(), &limit, nullptr);  // a failure is a look too early
}

Launch Supervisor::launch_of(std::uint32_t rank) const {
  auto variables = options_.environment;
  variables.emplace_back("HEDDLE_RANK", std::to_string(rank));
  variables.emplace_back("HEDDLE_SIZE", std::to_string(options_.workers));
  if (segment_.name().empty()) {
    variables.emplace_back("HEDDLE_SEGMENT_FD", std::to_string(segment_file_.get()));
  } else {
    variables.emplace_back("HEDDLE_SEGMENT", segment_.name());
  }

  Launch launch;
  launch.program = program_;
  launch.arguments = options_.command;
  launch.inherited_fd = segment_file_.get();
  if (options_.pin) launch.cores = core_of(rank);
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string_view text = *variable;
    const std::string_view name = text.substr(0, text.find('='));
    const bool is_ours = name == "HEDDLE_SEGMENT" || name == "HEDDLE_SEGMENT_FD";
    const auto is_set_anew = [name](const auto& each) { return each.first == name; };
    if (!is_ours && std::none_of(variables.begin(), variables.end(), is_set_anew)) {
      launch.environment.emplace_back(text);
    }
  }
  for (const auto& [name, value] : variables) {
    launch.environment.emplace_back(name).append("=").append(value);
  }
  return launch;
}

}  // namespace heddle

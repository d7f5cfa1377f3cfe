#include "storm_round.hpp"

#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <exception>
#include <thread>

namespace heddle {
namespace {

using namespace std::chrono_literals;

constexpr std::array role_names = {"producer", "consumer", "recoverer", "member"};

}  // namespace

void StormRound::linger(std::uint64_t number) {
  for (std::uint64_t i = number * 7 % 256; i != 0; --i) pause();  // some microseconds
}
void StormRound::rest() { std::this_thread::sleep_for(100us); }

StormRound::StormRound(std::mt19937_64& random, std::span<const StormRole> cast,
                       std::chrono::microseconds between_kills, std::size_t bytes,
                       StormTotals& totals)
    : cast_(cast),
      totals_(totals),
      segment_(Segment::anonymous({.bytes = bytes})),
      random_(random),
      between_kills_(between_kills) {}

StormRound::~StormRound() {
  for (std::size_t i = 0; i < cast_.size(); ++i) end(i, SIGKILL);
  munmap(course_, sizeof(Course));
}

void StormRound::complain(const std::string& text) {
  if (!course_->complained.exchange(true)) {
    text.copy(course_->complaint.data(), course_->complaint.size() - 1);
  }
}

void StormRound::rage(std::int64_t until, const std::function<void(std::uint64_t)>& look) {
  const auto now = [] { return std::chrono::steady_clock::now(); };
  std::uint64_t seen = 0;
  auto moved = now();
  for (auto next = now(); monotonic_ns() < until && !course_->complained;) {
    const auto most = static_cast<std::uint64_t>(2 * between_kills_.count());
    next = std::max(next, now() - 100ms) + std::chrono::microseconds(random_() % most);
    std::this_thread::sleep_until(next);
    const std::size_t victim = random_() % cast_.size();
    if (end(victim, SIGKILL) != -SIGKILL) complain_of(victim, "ended by itself");
    ++totals_.kills[static_cast<std::size_t>(cast_[victim])];
    was_killed(victim);
    start(victim);
    const std::uint64_t done = course_->done;
    if (done != seen || is_enough()) moved = now();
    seen = done;
    if (now() - moved > patience) complain("nobody gets on: it hangs");
    look(done);
  }
}

std::string StormRound::account() {
  course_->ending = true;
  let_end();
  if (!course_->complained) add_up();
  return course_->complaint.data();
}

// ---- processes

void StormRound::start_all() {
  for (std::size_t i = 0; i < cast_.size(); ++i) start(i);
}

void StormRound::start(std::size_t i) {
  const pid_t parent = getpid();
  pids_[i] = fork();
  if (pids_[i] < 0) throw_system_error("cannot start a process", errno);
  if (pids_[i] > 0) return;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);
  setpgid(0, 0);  // Ctrl-Z is for the one that kills, or all would be late afterwards
  try {
    play(i);
  } catch (const std::exception& error) {
    complain(error.what());
  }
  _exit(course_->complained ? 1 : 0);
}

// Its exit code, or minus the signal that it died of.
int StormRound::end(std::size_t i, int signal) {
  if (pids_[i] <= 0) return 0;
  if (signal != 0) kill(pids_[i], signal);
  int status = 0;
  while (waitpid(pids_[i], &status, 0) < 0 && errno == EINTR) {
  }
  pids_[i] = 0;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

void StormRound::await_all(StormRole role) {
  for (std::size_t i = 0; i < cast_.size(); ++i) {
    if (cast_[i] == role) await(i);
  }
}

void StormRound::await(std::size_t i) {
  const Deadline deadline = Deadline::after(patience);
  siginfo_t info{};
  const auto id = static_cast<id_t>(pids_[i]);
  while (waitid(P_PID, id, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == 0) {
    if (course_->complained) return;  // the destructor ends it
    if (deadline.left(monotonic_ns()) <= 0) return complain_of(i, "hangs at the end");
    rest();
  }
  if (end(i, 0) != 0) complain_of(i, "failed at the end");
}

void StormRound::complain_of(std::size_t i, const char* what) {
  complain(fmt::format("a {} {}", role_names[static_cast<std::size_t>(cast_[i])], what));
}

// Comes, recovers whoever is dead, and goes.
void StormRound::recover() {
  while (!course_->ending) {
    Segment own = Segment::adopt(segment_.fd());
    own.recover_dead();
    rest();
  }
}

}  // namespace heddle

#include "storm_round.hpp"

#include <fmt/format.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <exception>
#include <thread>

#include "heddle/base/error.hpp"

namespace heddle {
namespace {

using namespace std::chrono_literals;
using Count = std::atomic<std::uint64_t>;

constexpr std::uint32_t capacity = 64;  // few slots, so that all of them are always in use
constexpr std::uint64_t between_kills_us = 1'000;  // on average
constexpr auto patience = 20s;                     // nothing takes so long, unless it hangs

constexpr std::array role_names = {"producer", "consumer", "recoverer"};

/// What became of a task, written down by those who die.
struct Record {
  std::atomic<std::uint8_t> pushed;   // its producer was told so
  std::atomic<std::uint8_t> done;     // how often somebody has done it
  std::atomic<std::uint8_t> ended;    // how often somebody was told that it is complete
  std::atomic<std::uint8_t> excused;  // how often somebody was killed who had it
};

// In the middle of everything, so that most deaths are there. Some microseconds.
void linger(std::uint64_t number) {
  for (std::uint64_t i = number * 7 % 256; i != 0; --i) pause();
}
// Now and then, so that those who are killed and started get a core.
void rest() { std::this_thread::sleep_for(100us); }

}  // namespace

/// 64 bytes that say when they are torn.
struct StormRound::Job {
  std::uint64_t number;
  std::array<std::uint64_t, 7> words;

  void fill(std::uint64_t of, std::size_t from, std::size_t to) {
    number = of;
    for (std::size_t i = from; i < to; ++i) words[i] = of * 31 + i;
  }
  bool whole() const {
    for (std::size_t i = 0; i < words.size(); ++i) {
      if (words[i] != number * 31 + i) return false;
    }
    return true;
  }
};

/// In memory that no death takes away.
struct StormRound::Ledger {
  Count tasks, done;
  std::atomic<bool> ending, complained;
  std::array<char, 200> complaint;
  std::array<Count, cast.size()> held;  // the number of the task that each has, plus 1
  std::array<Record, most_tasks> records;

  // The first one counts.
  void complain(const std::string& text) {
    if (!complained.exchange(true)) text.copy(complaint.data(), complaint.size() - 1);
  }
  static Ledger* make() {  // zeroed; takes memory only for what is written
    void* memory = mmap(nullptr, sizeof(Ledger), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw_system_error("cannot map the storm's ledger", errno);
    return static_cast<Ledger*>(memory);
  }
};

StormRound::StormRound(std::mt19937_64& random, bool lies, StormTotals& totals)
    : random_(random),
      lies_(lies),
      totals_(totals),
      ledger_(Ledger::make()),
      segment_(Segment::anonymous({.bytes = std::size_t{1} << 20})) {
  static_cast<void>(segment_.open<Queue>("jobs", {.capacity = capacity}));
  for (std::size_t i = 0; i < cast.size(); ++i) start(i);
}

StormRound::~StormRound() {
  for (std::size_t i = 0; i < cast.size(); ++i) end(i, SIGKILL);
  munmap(ledger_, sizeof(Ledger));
}

void StormRound::rage(std::int64_t until, const std::function<void(std::uint64_t)>& look) {
  const auto now = [] { return std::chrono::steady_clock::now(); };
  std::uint64_t seen = 0;
  auto moved = now();
  for (auto next = now(); monotonic_ns() < until && !ledger_->complained;) {
    next = std::max(next, now() - 100ms) +
           std::chrono::microseconds(random_() % (2 * between_kills_us));
    std::this_thread::sleep_until(next);
    const std::size_t victim = random_() % cast.size();
    if (end(victim, SIGKILL) != -SIGKILL) complain(victim, "ended by itself");
    ++totals_.kills[static_cast<std::size_t>(cast[victim])];
    if (const std::uint64_t held = ledger_->held[victim].exchange(0)) {
      ++ledger_->records[held - 1].excused;
    }
    start(victim);
    const std::uint64_t done = ledger_->done;
    if (done != seen || ledger_->tasks >= most_tasks - cast.size()) moved = now();
    seen = done;
    if (now() - moved > patience) ledger_->complain("nobody gets on: it hangs");
    look(done);
  }
}

std::string StormRound::account() {
  ledger_->ending = true;
  for (std::size_t i = 0; i < cast.size(); ++i) {
    if (cast[i] != StormRole::consumer) await(i);
  }
  static_cast<void>(segment_.find<Queue>("jobs").close());
  for (std::size_t i = 0; i < cast.size(); ++i) {
    if (cast[i] == StormRole::consumer) await(i);
  }
  if (!ledger_->complained) account_for_tasks();
  if (!ledger_->complained) account_for_slots();
  return ledger_->complaint.data();
}

// ---- processes

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
    ledger_->complain(error.what());
  }
  _exit(ledger_->complained ? 1 : 0);
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

void StormRound::await(std::size_t i) {
  const Deadline deadline = Deadline::after(patience);
  siginfo_t info{};
  const auto id = static_cast<id_t>(pids_[i]);
  while (waitid(P_PID, id, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == 0) {
    if (ledger_->complained) return;  // the destructor ends it
    if (deadline.left(monotonic_ns()) <= 0) return complain(i, "hangs at the end");
    rest();
  }
  if (end(i, 0) != 0) complain(i, "failed at the end");
}

void StormRound::complain(std::size_t i, const char* what) {
  ledger_->complain(fmt::format("a {} {}", role_names[static_cast<std::size_t>(cast[i])], what));
}

// In those that are killed.
void StormRound::require(bool holds, const char* violated, std::uint64_t task) {
  if (holds) return;
  ledger_->complain(fmt::format("task {}: {}", task, violated));
  _exit(1);
}

void StormRound::play(std::size_t i) {
  if (cast[i] == StormRole::recoverer) return recover();
  Segment own = Segment::adopt(segment_.fd());
  cast[i] == StormRole::producer ? produce(own) : consume(own, ledger_->held[i]);
}

void StormRound::produce(Segment& own) {
  auto queue = own.find<Queue>("jobs");
  while (!ledger_->ending) {
    if (ledger_->tasks >= most_tasks - cast.size()) {  // enough for this round
      rest();
      continue;
    }
    const std::uint64_t number = ledger_->tasks.fetch_add(1);
    auto slot = queue.reserve(Deadline::after(patience));
    require(static_cast<bool>(slot), "there was no room for it", number);
    slot.payload().fill(number, 0, 3);
    linger(number);
    slot.payload().fill(number, 3, 7);
    require(static_cast<bool>(slot.commit()), "its living producer lost it", number);
    ledger_->records[number].pushed = 1;
    if (number % 32 == 0) rest();
  }
}

void StormRound::consume(Segment& own, Count& held) {
  auto queue = own.find<Queue>("jobs");
  for (;;) {
    Task<Job> task = queue.pop(Deadline::after(patience));
    if (task.status() == Status::closed) return;
    require(static_cast<bool>(task), "a consumer has waited for it in vain", ledger_->tasks);
    const Job job = task.payload();
    require(job.whole() && job.number < ledger_->tasks, "it is torn", job.number);
    held = job.number + 1;
    linger(job.number);
    if (job.number % 32 == 3 && task.tries() == 1) {
      require(task.fail() == Status::ready, "its living consumer lost it", job.number);
    } else {
      Record& record = ledger_->records[job.number];
      if (!lies_ || job.number != 1000) ++record.done;
      linger(job.number / 64);
      require(task.payload().whole(), "it was overwritten while it was leased", job.number);
      require(task.complete() == Status::ready, "its living consumer lost it", job.number);
      ++record.ended;
      ++ledger_->done;
    }
    held = 0;
  }
}

// Comes, recovers whoever is dead, and goes.
void StormRound::recover() {
  while (!ledger_->ending) {
    Segment own = Segment::adopt(segment_.fd());
    own.recover_dead();
    rest();
  }
}

// ---- the account

void StormRound::account_for_tasks() {
  std::uint64_t excused = 0;
  for (std::uint64_t i = 0; i < ledger_->tasks; ++i) {
    const Record& task = ledger_->records[i];
    const char* violated = nullptr;
    if (task.pushed != 0 && task.done == 0) violated = "it was pushed, and never done: it is lost";
    if (task.done > 1 + task.excused) violated = "it was done again, and nobody was killed with it";
    if (task.ended > 1) violated = "it has ended twice";
    if (violated != nullptr) return ledger_->complain(fmt::format("task {}: {}", i, violated));
    totals_.acknowledged += task.pushed;
    totals_.again += task.done > 1 ? 1 : 0;
    excused += task.excused;
  }
  if (excused > totals_.killed(StormRole::consumer)) {
    ledger_->complain("more tasks were at work than consumers");
  }
}

void StormRound::account_for_slots() {
  segment_.recover_dead();
  auto queue = segment_.find<Queue>("jobs");
  const QueueStats stats = queue.stats();
  totals_.recovered += stats.recovered;
  std::uint32_t free = 0;
  static_cast<void>(queue.reopen());
  while (free <= capacity && queue.try_push(Job{})) ++free;
  if (stats.now.filling + stats.now.waiting + stats.now.leased != 0 || free != capacity) {
    ledger_->complain(fmt::format("of {} slots {} are free at the end", capacity, free));
  }
}

}  // namespace heddle

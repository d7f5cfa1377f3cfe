#include "storm_queue.hpp"

#include <fmt/format.h>
#include <unistd.h>

namespace heddle {
namespace {

constexpr std::uint32_t capacity = 64;  // few slots, so that all of them are always in use

/// What became of a task, written down by those who die.
struct Record {
  std::atomic<std::uint8_t> pushed;   // its producer was told so
  std::atomic<std::uint8_t> done;     // how often somebody has done it
  std::atomic<std::uint8_t> ended;    // how often somebody was told that it is complete
  std::atomic<std::uint8_t> excused;  // how often somebody was killed who had it
};

}  // namespace

/// 64 bytes that say when they are torn.
struct StormOnQueue::Job {
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

struct StormOnQueue::Ledger {
  Count tasks;
  std::array<Count, cast.size()> held;  // the number of the task that each has, plus 1
  std::array<Record, most_tasks> records;
};

StormOnQueue::StormOnQueue(std::mt19937_64& random, bool lies, StormTotals& totals)
    : StormRound(random, cast, std::chrono::milliseconds(1), std::size_t{1} << 20, totals),
      lies_(lies),
      ledger_(make_ledger<Ledger>()) {
  static_cast<void>(segment_.open<Queue>("jobs", {.capacity = capacity}));
  start_all();
}

StormOnQueue::~StormOnQueue() { munmap(ledger_, sizeof(Ledger)); }

bool StormOnQueue::is_enough() const { return ledger_->tasks >= most_tasks - cast.size(); }

void StormOnQueue::was_killed(std::size_t i) {
  if (const std::uint64_t held = ledger_->held[i].exchange(0)) ++ledger_->records[held - 1].excused;
}

void StormOnQueue::let_end() {
  await_all(StormRole::producer);
  await_all(StormRole::recoverer);
  static_cast<void>(segment_.find<Queue>("jobs").close());
  await_all(StormRole::consumer);
}

void StormOnQueue::add_up() {
  account_for_tasks();
  if (!course_->complained) account_for_slots();
}

// ---- processes

// In those that are killed.
void StormOnQueue::require(bool holds, const char* violated, std::uint64_t task) {
  if (holds) return;
  complain(fmt::format("task {}: {}", task, violated));
  _exit(1);
}

void StormOnQueue::play(std::size_t i) {
  if (cast[i] == StormRole::recoverer) return recover();
  Segment own = Segment::adopt(segment_.fd());
  cast[i] == StormRole::producer ? produce(own) : consume(own, ledger_->held[i]);
}

void StormOnQueue::produce(Segment& own) {
  auto queue = own.find<Queue>("jobs");
  while (!course_->ending) {
    if (is_enough()) {  // enough for this round
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

void StormOnQueue::consume(Segment& own, Count& held) {
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
      ++course_->done;
    }
    held = 0;
  }
}

// ---- the account

void StormOnQueue::account_for_tasks() {
  std::uint64_t excused = 0;
  for (std::uint64_t i = 0; i < ledger_->tasks; ++i) {
    const Record& task = ledger_->records[i];
    const char* violated = nullptr;
    if (task.pushed != 0 && task.done == 0) violated = "it was pushed, and never done: it is lost";
    if (task.done > 1 + task.excused) violated = "it was done again, and nobody was killed with it";
    if (task.ended > 1) violated = "it has ended twice";
    if (violated != nullptr) return complain(fmt::format("task {}: {}", i, violated));
    totals_.acknowledged += task.pushed;
    totals_.again += task.done > 1 ? 1 : 0;
    excused += task.excused;
  }
  if (excused > totals_.killed(StormRole::consumer)) {
    complain("more tasks were at work than consumers");
  }
}

void StormOnQueue::account_for_slots() {
  segment_.recover_dead();
  auto queue = segment_.find<Queue>("jobs");
  const QueueStats stats = queue.stats();
  totals_.recovered += stats.recovered;
  std::uint32_t free = 0;
  static_cast<void>(queue.reopen());
  while (free <= capacity && queue.try_push(Job{})) ++free;
  if (stats.now.filling + stats.now.waiting + stats.now.leased != 0 || free != capacity) {
    complain(fmt::format("of {} slots {} are free at the end", capacity, free));
  }
}

}  // namespace heddle

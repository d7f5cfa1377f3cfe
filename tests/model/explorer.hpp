#pragma once

// The schedule explorer: runs a scenario again and again, each time with another schedule.
//
// A scenario sets up shared memory and some processes. Each process is a fiber; before every
// operation on shared memory there is a choice: who goes on, or whether this process dies here. A
// load chooses which store it reads. The choices of one run are one string; all strings within the
// bounds are walked depth first, or drawn from a seed.
//
// What is left out, to keep the walk finite:
//   preemptions  at most so many times does another run although this one could go on. Where one
//                ends, waits or pauses, changing to another is free
//   deaths       at most so many. A process may die before an operation if it has changed something
//                since it last could; and, while it stands still, when somebody asks whether it
//                lives (then it died some time before: nobody can tell the difference)
//   stale        at most so many loads (failed exchanges too) read another store than the newest
//   pauses       pause() and yield() let others run until one of them has stored something; going on
//                at once instead costs a preemption, and lasts until the next change (300 at most)
//   timeouts     sleepers wake by themselves only when nobody else can run, or for a preemption; and
//                never with `inner_timeouts` off, so that a lost wake-up is a deadlock
//   stops        in a run with `alone`: once, all others stop for ever where they stand, and live.
//                The one that is left must end within so many steps of its own
// The futex looks at its word's newest value, and wakes which sleeper it likes; it orders nothing.

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "heddle/base/atomic.hpp"
#include "model/memory.hpp"

namespace heddle::model {

struct Bounds {
  int preemptions = 2;
  int deaths = 0;
  int stale = 2;
  bool inner_timeouts = true;
  int alone = 0;     ///< not 0: steps in which each process ends once all others have stopped
  int steps = 6000;  ///< of one run; more: it is stuck in a loop
};

/// One run of a scenario, while it is being set up.
class Run {
 public:
  Run() = default;
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;
  ~Run() {
    while (!ghosts_.empty()) ghosts_.pop_back();
  }

  /// Zeroed shared memory, aligned to 64; `label` names it in schedules.
  std::span<std::byte> memory(const char* label, std::size_t bytes);
  template <class T>
  T& shared(const char* label) {
    return *reinterpret_cast<T*>(memory(label, sizeof(T)).data());
  }
  /// What the checks know beside shared memory: not seen by the model.
  template <class T, class... Args>
  T& ghost(Args&&... args) {
    T* made = new T{std::forward<Args>(args)...};
    ghosts_.emplace_back(made, [](void* ghost) { delete static_cast<T*>(ghost); });
    return *made;
  }
  /// Returns its number, from 0 on.
  std::size_t process(const char* name, bool mortal, std::function<void()> body);
  /// After all have ended: sees the newest value of everything.
  void finally(std::function<void()> check) { finally_ = std::move(check); }

 private:
  friend class Explorer;
  std::size_t used_ = 0;
  std::vector<std::unique_ptr<void, void (*)(void*)>> ghosts_;
  std::function<void()> finally_;
};

/// Ends the run as a failure.
[[noreturn]] void fail(const std::string& claim);
inline void check(bool holds, const char* claim) {
  if (!holds) fail(claim);
}

/// Whether this process's token is free. If it is, the caller learns what the dead knew (LIVE-1).
bool is_dead(std::size_t process);
/// Leaves, or was killed by the scenario itself: the token is free from here on.
void drop_token(std::size_t process);
bool has_ended(std::size_t process);  ///< dead or done; for checks, no step of the model
bool has_died(std::size_t process);   ///< the same
std::size_t self();

/// A moment, for histories (history.hpp). It counts for what the caller has done before.
using Tick = std::uint16_t;
Tick tick();
/// The newest tick of each process that happened before what the caller does now.
std::array<Tick, most_processes> known_ticks();
/// Whether every load of this run has read the newest store: then time orders what was done.
bool is_sequential();

/// Repairs between these two can be left out by a mutation.
void begin_repair();
void end_repair();

struct Scenario {
  std::string name;
  Bounds bounds;
  std::function<void(Run&)> setup;
  bool must_fail = false;  ///< a known-bad control
};

/// One order, weakened; or one repair, left out.
struct Mutation {
  std::string tag;
  Strength from = Strength::relaxed;
  Strength to = Strength::relaxed;
  bool removes = false;  ///< the fence, or the change made in a repair
};

struct Limits {
  std::uint64_t executions = 0;  ///< 0: none
  double seconds = 0;            ///< 0: none
  std::uint64_t seed = 0;        ///< not 0: random
};

struct Result {
  std::uint64_t executions = 0;
  std::uint64_t deaths = 0;  ///< runs with a death
  std::uint64_t alone = 0;   ///< runs in which all others stopped
  bool complete = false;     ///< everything within the bounds was walked
  bool failed = false;
  std::string claim;     ///< what did not hold
  std::string schedule;  ///< replay string
  std::string steps;     ///< readable
  double seconds = 0;
};

Result explore(const Scenario& scenario, const Limits& limits, const Mutation* mutation = nullptr);
/// Throws std::invalid_argument when the string is damaged or of another build.
Result replay(const std::vector<Scenario>& scenarios, const std::string& schedule,
              const Mutation* mutation = nullptr);

}  // namespace heddle::model

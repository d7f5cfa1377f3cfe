#pragma once

// A few seconds of a kill storm: processes on a task queue that are killed with SIGKILL at random and
// started again; then everything is accounted for.
//
// What a killed process had done is known from a ledger in shared memory, in which each writes before
// and after. The segment has no name: whoever dies, nothing is left.

#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <random>
#include <string>

#include "heddle/shm/segment.hpp"
#include "heddle/sync/task_queue.hpp"

namespace heddle {

enum class StormRole : std::size_t { producer, consumer, recoverer };

/// Of all rounds.
struct StormTotals {
  std::array<std::uint64_t, 3> kills{};  ///< by role
  std::uint64_t acknowledged = 0;        ///< tasks whose producer was told that they are pushed
  std::uint64_t again = 0;               ///< tasks that were done more than once
  std::uint64_t recovered = 0;           ///< slots that were taken from the dead

  std::uint64_t killed(StormRole role) const { return kills[static_cast<std::size_t>(role)]; }
  std::uint64_t killed() const { return kills[0] + kills[1] + kills[2]; }
};

class StormRound {
 public:
  /// Starts the processes. With `lies` a consumer says that it has done a task that it has not.
  StormRound(std::mt19937_64& random, bool lies, StormTotals& totals);
  ~StormRound();  ///< kills them
  StormRound(const StormRound&) = delete;
  StormRound& operator=(const StormRound&) = delete;

  /// Kills until `until` (monotonic_ns), or until somebody complains. `look` is told now and then how
  /// many tasks are done; what it throws ends the round.
  void rage(std::int64_t until, const std::function<void(std::uint64_t)>& look);
  /// Lets all come to their end, and adds up. What was violated; empty if the promise held.
  std::string account();

 private:
  static constexpr std::uint64_t most_tasks = 16'000'000;
  static constexpr std::array cast = {StormRole::producer, StormRole::producer,
                                      StormRole::consumer, StormRole::consumer,
                                      StormRole::consumer, StormRole::recoverer};
  struct Job;
  struct Ledger;
  using Queue = TaskQueue<Job>;

  void start(std::size_t i);
  int end(std::size_t i, int signal);
  void await(std::size_t i);
  void complain(std::size_t i, const char* what);
  void require(bool holds, const char* violated, std::uint64_t task);

  void play(std::size_t i);
  void produce(Segment& own);
  void consume(Segment& own, std::atomic<std::uint64_t>& held);
  void recover();

  void account_for_tasks();
  void account_for_slots();

  std::mt19937_64& random_;
  const bool lies_;
  StormTotals& totals_;
  Ledger* const ledger_;
  Segment segment_;
  std::array<pid_t, cast.size()> pids_{};
};

}  // namespace heddle

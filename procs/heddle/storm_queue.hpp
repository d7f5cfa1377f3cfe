#pragma once

// A round of the storm on a task queue: every acknowledged task is done, none again but those of killed
// consumers, and no slot is lost.

#include "heddle/sync/task_queue.hpp"
#include "storm_round.hpp"

namespace heddle {

class StormOnQueue final : public StormRound {
 public:
  /// Starts the processes. With `lies` a consumer says that it has done a task that it has not.
  StormOnQueue(std::mt19937_64& random, bool lies, StormTotals& totals);
  ~StormOnQueue() override;

 private:
  static constexpr std::uint64_t most_tasks = 16'000'000;
  static constexpr std::array cast = {StormRole::producer, StormRole::producer,
                                      StormRole::consumer, StormRole::consumer,
                                      StormRole::consumer, StormRole::recoverer};
  struct Job;
  struct Ledger;
  using Queue = TaskQueue<Job>;

  void play(std::size_t i) override;
  void was_killed(std::size_t i) override;
  bool is_enough() const override;
  void let_end() override;
  void add_up() override;

  void produce(Segment& own);
  void consume(Segment& own, Count& held);
  void require(bool holds, const char* violated, std::uint64_t task);
  void account_for_tasks();
  void account_for_slots();

  const bool lies_;
  Ledger* const ledger_;
};

}  // namespace heddle

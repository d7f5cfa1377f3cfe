#pragma once

// A few seconds of a kill storm: processes that share something are killed with SIGKILL at random and
// started again; then everything is accounted for. storm_queue.hpp and storm_group.hpp say what they do.
//
// What a killed process had done is known from a ledger in shared memory, in which each writes before
// and after. The segment has no name: whoever dies, nothing is left.

#include <sys/mman.h>
#include <sys/types.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "heddle/base/error.hpp"
#include "heddle/shm/segment.hpp"

namespace heddle {

enum class StormRole : std::size_t { producer, consumer, recoverer, member };

/// Of all rounds.
struct StormTotals {
  std::array<std::uint64_t, 4> kills{};  ///< by role
  std::uint64_t acknowledged = 0;        ///< tasks whose producer was told that they are pushed
  std::uint64_t again = 0;               ///< tasks that were done more than once
  std::uint64_t recovered = 0;           ///< slots that were taken from the dead
  std::uint64_t reductions = 0;          ///< of each member of a group
  std::uint64_t epochs = 0;              ///< of groups

  std::uint64_t killed(StormRole role) const { return kills[static_cast<std::size_t>(role)]; }
  std::uint64_t killed() const { return kills[0] + kills[1] + kills[2] + kills[3]; }
};

class StormRound {
 public:
  virtual ~StormRound();  ///< kills them
  StormRound(const StormRound&) = delete;
  StormRound& operator=(const StormRound&) = delete;

  /// Kills until `until` (monotonic_ns), or until somebody complains. `look` is told now and then how
  /// much is done; what it throws ends the round.
  void rage(std::int64_t until, const std::function<void(std::uint64_t)>& look);
  /// Lets all come to their end, and adds up. What was violated; empty if the promise held.
  std::string account();

 protected:
  using Count = std::atomic<std::uint64_t>;
  static constexpr auto patience =
      std::chrono::seconds(20);  // nothing takes so long, unless it hangs

  /// In memory that no death takes away.
  template <class T>
  static T* make_ledger() {  // zeroed; takes memory only for what is written
    void* memory = mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw_system_error("cannot map the storm's ledger", errno);
    return static_cast<T*>(memory);
  }
  struct Course {
    Count done;
    std::atomic<bool> ending, complained;
    std::array<char, 200> complaint;
  };

  StormRound(std::mt19937_64& random, std::span<const StormRole> cast,
             std::chrono::microseconds between_kills, std::size_t bytes, StormTotals& totals);
  void start_all();  ///< when the object is whole
  void await_all(StormRole role);

  /// In its process, until all shall end, or it is killed.
  virtual void play(std::size_t i) = 0;
  virtual void was_killed(std::size_t i) = 0;
  virtual bool is_enough() const { return false; }  ///< nothing more gets done in this round
  virtual void let_end() = 0;
  virtual void add_up() = 0;

  void recover();
  /// The first one counts.
  void complain(const std::string& text);
  static void rest();  ///< so that those who are killed and started get a core
  static void linger(std::uint64_t number);  ///< in the middle of everything, for most deaths

  const std::span<const StormRole> cast_;
  StormTotals& totals_;
  Course* const course_ = make_ledger<Course>();
  Segment segment_;

 private:
  void start(std::size_t i);
  int end(std::size_t i, int signal);
  void await(std::size_t i);
  void complain_of(std::size_t i, const char* what);

  std::mt19937_64& random_;
  const std::chrono::microseconds between_kills_;
  std::vector<pid_t> pids_ = std::vector<pid_t>(cast_.size());
};

}  // namespace heddle

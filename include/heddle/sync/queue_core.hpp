#pragma once

// The task queue on untyped bytes: one to eight lanes, each a lease ring, and what their tasks came
// to. Programs use TaskQueue<T> (task_queue.hpp).
//
// Who may call    a QueueCore: any participant, one thread at a time; more handles for more threads.
//                 stats, dead_letters, result: observers too
// Progress        as of LeaseRing; result: blocking, bounded by its deadline
// State           for each lane, on its own pages' cache lines: lease ring | result table. What the
//                 lanes share stands in the first one's header; consumers sleep on its not_empty
// An id           is ticket * lanes + lane, so with one lane the ticket: the how-manieth push it was
// How a task ends complete without results: one exchange, LEASED -> FREE. Else in three steps:
//                 LEASED -> ENDING, which says that nobody else ends it; the result, or the reason;
//                 ENDING -> FREE, REQUEUE or DEAD
// On death        in between: the task comes back, and its first result stays (RESULT-1). Results are
//                 repaired before the ring, so that nobody ends a task whose entry names a dead one
//                 of who retries or drops a dead letter: it stays one
//                 of who closes or reopens: it is as is_closed says, but some lanes may be ahead, until
//                 somebody does it again
// Not for         results that must be kept: each goes when as many tasks as the table has entries
//                 were pushed after it

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "heddle/base/clock.hpp"
#include "heddle/base/error.hpp"
#include "heddle/shm/peers.hpp"
#include "heddle/sync/lease_ring.hpp"
#include "heddle/sync/result_table.hpp"

namespace heddle {

/// What a queue is made of. Its maker decides; who opens it later finds it.
struct QueueShape {
  static constexpr std::uint32_t most_lanes = 8;
  static constexpr std::uint32_t most_result = 1U << 30;

  LeaseRingShape ring;
  std::uint32_t lanes = 1;
  std::uint32_t results = 0;  ///< entries of each lane's table: a power of two, or 0
  std::uint32_t result_bytes = 0;

  std::size_t lane_bytes() const noexcept;
  std::size_t bytes() const noexcept { return lane_bytes() * lanes; }
  bool valid() const noexcept;
  /// Throws Error{invalid_argument} that says what is wrong, if it is not valid.
  void check() const;
  /// That of the queue in `memory`; nothing if none of that shape fits there.
  static std::optional<QueueShape> of(std::span<const std::byte> memory) noexcept;
};

/// A task's number in its queue.
using TaskId = std::uint64_t;

/// What a queue holds, and what has come to pass in it. Looked at slot by slot while others go on.
struct QueueStats {
  LeaseCounts now;              ///< of all lanes
  std::uint64_t pushed = 0;     ///< tickets: pushes that were begun; rates are differences of these
  std::uint64_t popped = 0;     ///< tickets that consumers have passed
  std::uint64_t capacity = 0;   ///< of all lanes
  std::uint64_t abandoned = 0;  ///< producers that consumers have gone past
  std::uint64_t skipped = 0;    ///< slots that producers have gone past: long leases
  std::uint64_t recovered = 0;  ///< slots taken from the dead
  std::uint64_t expired = 0;    ///< leases taken from the living, after the lease timeout
  std::uint64_t died = 0;       ///< tasks that became dead letters
  std::uint64_t results_expired = 0;  ///< results that nobody had read when others came
  bool closed = false;
};

struct DeadLetter {
  TaskId id = 0;
  std::uint64_t tries = 0;
  std::uint32_t worker = 0;  ///< process id of its last worker
  std::string reason;        ///< what that said; empty: it died, or was too late
};

class QueueCore {
 public:
  static void format(std::span<std::byte> memory, const QueueShape& shape) noexcept;
  static void repair(std::span<std::byte> memory, const Dead& dead) noexcept;

  /// Attaches. The shape is that of the queue in `memory`.
  QueueCore(std::span<std::byte> memory, const QueueShape& shape, Peers& peers);

  /// A slot to fill, of a lane that exists. As LeaseRing::reserve and try_reserve.
  Status reserve(LeaseRing::Reservation& out, std::uint32_t lane, Deadline deadline) noexcept {
    return rings_[lane].reserve(out, deadline);
  }
  Status try_reserve(LeaseRing::Reservation& out, std::uint32_t lane) noexcept {
    return rings_[lane].try_reserve(out);
  }
  /// Publishes it. `delay`: not to be leased before; in a queue with notes.
  Status commit(const LeaseRing::Reservation& slot, std::chrono::nanoseconds delay) const noexcept {
    if (shape_.ring.notes) date(slot, delay);
    return slot.commit();
  }

  /// A task of the first lane that has one. As LeaseRing::lease and try_lease.
  Status lease(LeaseRing::Lease& out, std::uint32_t& lane, Deadline deadline) noexcept {
    if (shape_.lanes > 1) return lease_from_lanes(out, lane, deadline);
    return rings_[0].lease(out, deadline);
  }
  Status try_lease(LeaseRing::Lease& out, std::uint32_t& lane) noexcept {
    if (shape_.lanes > 1) return try_lease_from_lanes(out, lane);
    return rings_[0].try_lease(out);
  }

  /// Where the results of a lane's tasks go, if the queue keeps any.
  ResultTable results_of(std::uint32_t lane) const noexcept {
    return table_of(memory_, shape_, lane);
  }
  bool keeps_results() const noexcept { return shape_.results != 0; }
  /// The task is done. invalid, and still leased: the result is too long, or goes nowhere.
  static Status complete(const LeaseRing::Lease& task, std::optional<ResultTable>& results,
                         std::span<const std::byte> result) noexcept {
    if (results) return complete_with(task, *results, result);
    return result.empty() ? task.complete() : Status::invalid;
  }

  /// Waits for the result of a task, and copies it out: `length` is what it has, result.size() at most
  /// are copied. ready; timeout; failed: it is a dead letter; expired: it came, and later ones have
  /// taken its place; invalid: the queue keeps no results, or never gave out such an id.
  Status result(TaskId id, std::span<std::byte> result, std::size_t& length,
                Deadline deadline) noexcept;

  Status close() noexcept;
  Status reopen() noexcept;
  bool is_closed() const noexcept { return rings_[0].is_closed(); }

  QueueStats stats() const noexcept;
  std::vector<DeadLetter> dead_letters() const;
  /// Gives a dead letter as many tries as it had. ready; empty: there is none with this id; closed.
  Status retry(TaskId id) noexcept;
  /// Removes a dead letter: ready; empty, closed as above.
  Status drop(TaskId id) noexcept;

  TaskId id(std::uint64_t ticket, std::uint32_t lane) const noexcept {
    return ticket * shape_.lanes + lane;
  }
  const QueueShape& shape() const noexcept { return shape_; }
  LeaseCounts count() const noexcept;
  void wait_strategy(WaitStrategy strategy) noexcept;

 private:
  static void date(const LeaseRing::Reservation& slot, std::chrono::nanoseconds delay) noexcept;
  static Status complete_with(const LeaseRing::Lease& task, ResultTable& results,
                              std::span<const std::byte> result) noexcept;
  static ResultTable table_of(std::span<std::byte> memory, const QueueShape& shape,
                              std::uint32_t lane) noexcept;
  Status lease_from_lanes(LeaseRing::Lease& out, std::uint32_t& lane, Deadline deadline) noexcept;
  Status try_lease_from_lanes(LeaseRing::Lease& out, std::uint32_t& lane) noexcept;
  LeaseRing& ring_of(TaskId id) noexcept { return rings_[id % shape_.lanes]; }

  std::span<std::byte> memory_;
  QueueShape shape_;
  Peers* peers_;
  WaitStrategy strategy_ = WaitStrategy::adaptive;
  std::vector<LeaseRing> rings_;
};

}  // namespace heddle

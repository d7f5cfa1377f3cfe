#pragma once

// TaskQueue<T>: a bounded queue of tasks between processes. A task that is popped stays in the
// queue, leased, until its worker completes it; the tasks of dead workers go to others. At least
// once; exactly once as long as no leaseholder dies. lease_ring.hpp has the mechanism.
//
//   TaskQueue<Job> queue = segment.open<TaskQueue<Job>>("jobs", {.capacity = 4096});
//   queue.push(job);
//   while (Task<Job> task = queue.pop()) {   // until closed and drained
//     work(task.payload());
//     task.complete();
//   }

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include "heddle/base/clock.hpp"
#include "heddle/base/error.hpp"
#include "heddle/shm/object.hpp"
#include "heddle/shm/peers.hpp"
#include "heddle/sync/lease_ring.hpp"

namespace heddle {

template <class T>
class TaskQueue;

/// A leased task, or the reason why there is none. Dropped without a word it goes back to the
/// queue. It may outlive the TaskQueue it came from, but not the segment.
template <class T>
class [[nodiscard]] Task {
 public:
  Task() = default;
  Task(Task&& other) noexcept
      : lease_(other.lease_), status_(std::exchange(other.status_, Status::lost_lease)) {}
  Task& operator=(Task&& other) noexcept {
    Task old(std::move(*this));
    lease_ = other.lease_;
    status_ = std::exchange(other.status_, Status::lost_lease);
    return *this;
  }
  ~Task() {
    if (*this) static_cast<void>(lease_.give_back());
  }

  explicit operator bool() const noexcept { return status_ == Status::ready; }
  /// ready: a task. Else why not: empty, timeout, closed; lost_lease once it has ended.
  Status status() const noexcept { return status_; }

  /// In the segment, not copied. Not after the task's end.
  const T& payload() const noexcept {
    return *std::launder(reinterpret_cast<const T*>(lease_.payload(TaskQueue<T>::payload_at)));
  }
  /// Of this push, in this queue; the same at every try.
  std::uint64_t id() const noexcept { return lease_.id(); }
  /// How often it was leased, this time included. From 1,024 on it may read lower than it is.
  std::uint64_t tries() const noexcept { return lease_.tries(); }

  /// The task is done and leaves the queue. ready; lost_lease when it is no longer ours and nothing
  /// was changed; closed in a forked child.
  Status complete() noexcept { return end(&LeaseRing::Lease::complete); }
  /// The task goes back, for another try by anyone. Answers as complete does.
  Status fail() noexcept { return end(&LeaseRing::Lease::give_back); }

 private:
  friend TaskQueue<T>;
  Status end(Status (LeaseRing::Lease::*way)() const noexcept) noexcept {
    if (!*this) return Status::lost_lease;
    status_ = Status::lost_lease;
    return (lease_.*way)();
  }

  LeaseRing::Lease lease_;
  Status status_ = Status::lost_lease;
};

/// One thread's handle to a queue; copy it for another thread.
template <class T>
class TaskQueue {
  static_assert(std::is_trivially_copyable_v<T>, "shared memory holds trivially copyable types");
  static_assert(alignof(T) <= 64);

 public:
  struct Options {
    /// A power of two from 64 to 2^24: well above the tasks that wait and are leased at a time.
    std::uint32_t capacity = 1024;
  };

  static constexpr ObjectKind kind = ObjectKind::task_queue;
  static constexpr ElementType element() { return element_type<T>(); }
  static std::size_t bytes(const Options& options) { return checked(options).bytes(); }
  static void format(std::span<std::byte> memory, const Options& options) {
    LeaseRing::format(memory, checked(options));
  }
  static void repair(std::span<std::byte> memory, const Dead& dead) noexcept {
    LeaseRing::repair(memory, dead);
  }

  TaskQueue(std::span<std::byte> memory, Peers& peers) : ring_(memory, found(memory), peers) {}

  /// ready; timeout when there was no room until `deadline`; closed.
  Status push(const T& value, Deadline deadline = Deadline::never()) noexcept {
    LeaseRing::Reservation slot;
    const Status got = ring_.reserve(slot, deadline);
    return got == Status::ready ? filled(slot, value) : got;
  }
  /// ready; full; closed. Does not wait.
  Status try_push(const T& value) noexcept {
    LeaseRing::Reservation slot;
    const Status got = ring_.try_reserve(slot);
    return got == Status::ready ? filled(slot, value) : got;
  }

  /// A task; or timeout; or closed, when the queue was closed and no task can come any more. One
  /// that is leased may yet come back, so until then it waits: also when it is the caller's own.
  Task<T> pop(Deadline deadline = Deadline::never()) noexcept {
    Task<T> task;
    task.status_ = ring_.lease(task.lease_, deadline);
    return task;
  }
  /// A task; or empty; or closed as above. Does not wait, but a consumer that has caught up with a
  /// busy producer falls back for a microsecond.
  Task<T> try_pop() noexcept {
    Task<T> task;
    task.status_ = ring_.try_lease(task.lease_);
    return task;
  }

  /// No more pushes. Who pushes or waits for room gets `closed`, who pops gets what is left.
  Status close() noexcept { return ring_.close(); }
  bool is_closed() const noexcept { return ring_.is_closed(); }

  /// By a look at every slot: for people and tests.
  LeaseCounts count() const noexcept { return ring_.count(); }
  std::uint32_t capacity() const noexcept { return ring_.capacity(); }
  void wait_strategy(WaitStrategy strategy) noexcept { ring_.wait_strategy(strategy); }

 private:
  friend Task<T>;
  static constexpr LeaseRingShape shape_of(std::uint32_t capacity) {
    return {capacity, sizeof(T), alignof(T) < 8 ? 8 : alignof(T)};
  }
  static constexpr std::size_t payload_at = shape_of(LeaseRingShape::least_capacity).payload_at();

  static LeaseRingShape checked(const Options& options) {
    const LeaseRingShape shape = shape_of(options.capacity);
    if (!shape.valid()) {
      throw Error(Errc::invalid_argument,
                  "task queue: the capacity must be a power of two from 64 to 16777216, not " +
                      std::to_string(options.capacity));
    }
    return shape;
  }
  static LeaseRingShape found(std::span<std::byte> memory) {
    const auto shape = LeaseRingShape::of(memory);
    const LeaseRingShape wanted = shape_of(shape ? shape->capacity : 0);
    if (!shape || shape->payload_bytes != wanted.payload_bytes ||
        shape->payload_alignment != wanted.payload_alignment) {
      throw Error(Errc::corrupt, "task queue: the header is damaged");
    }
    return *shape;
  }

  static Status filled(const LeaseRing::Reservation& slot, const T& value) noexcept {
    std::memcpy(slot.payload(payload_at), &value, sizeof(T));
    return slot.commit();
  }

  LeaseRing ring_;
};

}  // namespace heddle

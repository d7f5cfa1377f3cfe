#pragma once

// TaskQueue<T>: a bounded queue of tasks between processes. A task that is popped stays in the
// queue, leased, until its worker completes it; the tasks of dead workers go to others. At least
// once; exactly once as long as no leaseholder dies or is late. First in, first out within a lane, as
// long as nobody dies, fails or stalls. lease_ring.hpp and queue_core.hpp have the mechanism.
//
//   TaskQueue<Job> queue = segment.open<TaskQueue<Job>>("jobs", {.capacity = 4096});
//   queue.push(job);
//   while (Task<Job> task = queue.pop()) {   // until closed and drained
//     work(task.payload());
//     task.complete();
//   }
//
// TaskQueue<T> has one trivially copyable T for a task, TaskQueue<bytes> any bytes up to a maximum.

#include <array>
#include <bit>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "heddle/base/clock.hpp"
#include "heddle/base/error.hpp"
#include "heddle/shm/object.hpp"
#include "heddle/shm/peers.hpp"
#include "heddle/sync/queue_core.hpp"

namespace heddle {

/// The payload of a TaskQueue<bytes>.
struct bytes;

template <class T>
class TaskQueue;

namespace detail {

template <class T>
struct QueueOptions {
  /// A power of two from 64 to 2^24, for each lane: well above the tasks that wait and are leased at a
  /// time, with the dead letters.
  std::uint32_t capacity = 1024;
  /// 1 to 8: tasks of lane 0 go first.
  std::uint32_t lanes = 1;
  /// After so many a task is a dead letter; 0: it is tried for ever. At most 1000.
  std::uint32_t max_tries = 0;
  /// A living worker that has had a task for longer loses it; 0: never.
  std::chrono::milliseconds lease_timeout{0};
  /// Tasks can be pushed, or fail, for later. With this, max_tries or lease_timeout the queue keeps
  /// times and reasons: 64 bytes more for a slot, some 50 ns more for a task.
  bool delays = false;
  /// What tasks may come to, at most; see also results.
  std::uint32_t result_bytes = 0;
  /// Results kept, a power of two, for each lane: each until so many more were pushed. 0: as many as
  /// capacity, or none if result_bytes is 0.
  std::uint32_t results = 0;
};
struct BytesQueueOptions {
  std::uint32_t payload_bytes = 256;  ///< of a task, at most; the rest is as above
  std::uint32_t capacity = 1024;
  std::uint32_t lanes = 1;
  std::uint32_t max_tries = 0;
  std::chrono::milliseconds lease_timeout{0};
  bool delays = false;
  std::uint32_t result_bytes = 0;
  std::uint32_t results = 0;
};

/// How a T lies in a slot.
template <class T>
struct QueuePayload {
  using Options = QueueOptions<T>;
  using View = const T&;
  static constexpr std::uint32_t size = sizeof(T);
  static constexpr std::uint32_t alignment = alignof(T) < 8 ? 8 : alignof(T);
  static constexpr ElementType element() { return element_type<T>(); }
  static std::uint32_t size_in(const Options& /*options*/) { return size; }
  static bool fits(const QueueShape& shape) { return shape.ring.payload_bytes == size; }
  static View view(const std::byte* payload, std::uint32_t /*size*/) noexcept {
    return *std::launder(reinterpret_cast<const T*>(payload));
  }
};
/// {length:32, 4 bytes that are nothing, the bytes}
template <>
struct QueuePayload<bytes> {
  using Options = BytesQueueOptions;
  using View = std::span<const std::byte>;
  static constexpr std::uint32_t head = 8;
  static constexpr std::uint32_t alignment = 8;
  static constexpr ElementType element() { return element_type<std::byte>(); }
  static std::uint32_t size_in(const Options& options) {
    return options.payload_bytes > LeaseRingShape::most_payload ? ~0U
                                                                : head + options.payload_bytes;
  }
  static bool fits(const QueueShape& shape) { return shape.ring.payload_bytes >= head; }
  static View view(const std::byte* payload, std::uint32_t size) noexcept {
    std::uint32_t length = 0;
    std::memcpy(&length, payload, sizeof length);
    return {payload + head, length < size - head ? length : size - head};  // if it is damaged
  }
};

}  // namespace detail

/// A leased task, or the reason why there is none. Dropped without a word it is released. It may outlive the TaskQueue it came from, but not the segment.
template <class T>
class [[nodiscard]] Task {
 public:
  Task() = default;
  Task(Task&& other) noexcept
      : lease_(other.lease_),
        results_(other.results_),
        payload_bytes_(other.payload_bytes_),
        lanes_(other.lanes_),
        lane_(other.lane_),
        status_(std::exchange(other.status_, Status::lost_lease)) {}
  Task& operator=(Task&& other) noexcept {
    if (*this) static_cast<void>(release());
    lease_ = other.lease_;
    results_ = other.results_;
    payload_bytes_ = other.payload_bytes_;
    lanes_ = other.lanes_;
    lane_ = other.lane_;
    status_ = std::exchange(other.status_, Status::lost_lease);
    return *this;
  }
  ~Task() {
    if (*this) static_cast<void>(lease_.give_back());
  }

  explicit operator bool() const noexcept { return status_ == Status::ready; }
  /// ready: a task. Else why not: empty, timeout, closed; lost_lease once it has ended.
  Status status() const noexcept { return status_; }

  /// In the segment, not copied: a const T&, or a span of bytes. Not after the task's end.
  decltype(auto) payload() const noexcept {
    return detail::QueuePayload<T>::view(lease_.payload(), payload_bytes_);
  }
  /// Of this push, in this queue; the same at every try.
  TaskId id() const noexcept { return lease_.ticket() * lanes_ + lane_; }
  /// How often it was leased, this time included. From 1,024 on it may read lower than it is.
  std::uint64_t tries() const noexcept { return lease_.tries(); }

  // The task's end. Each answers ready; lost_lease when it is no longer ours, or was ended before:
  // nothing was changed; closed in a forked child.

  /// It is done and leaves the queue.
  Status complete() noexcept { return complete(std::span<const std::byte>()); }
  /// The same, with what it has come to, for TaskQueue::result. invalid when that is more than
  /// result_bytes, or the queue keeps no results: the task is still ours.
  Status complete(std::span<const std::byte> result) noexcept {
    return end([&] { return QueueCore::complete(lease_, results_, result); });
  }
  template <class R>
  requires(std::is_trivially_copyable_v<R> &&
           !std::convertible_to<R, std::span<const std::byte>>) Status complete(const R& result)
  noexcept { return complete(std::as_bytes(std::span(&result, 1))); }
  /// It has failed: another try by anyone, not before `delay` is over; or a dead letter if this was its
  /// last (max_tries). The first 32 bytes of the reason stay with it. Reason and delay need a queue with
  /// max_tries, lease_timeout or delays.
  Status fail(std::string_view reason = {}, std::chrono::nanoseconds delay = {}) noexcept {
    return end([&] { return lease_.fail(reason, delay); });
  }
  /// Others may have it at once. It counts as a try: after the last one it is a dead letter.
  Status release() noexcept {
    return end([&] { return lease_.give_back(); });
  }
  /// It goes on: the lease timeout begins anew. This does not end it.
  Status extend() noexcept { return *this ? lease_.extend() : Status::lost_lease; }

 private:
  friend TaskQueue<T>;
  template <class End>
  Status end(End&& end) noexcept {
    if (!*this) return Status::lost_lease;
    const Status got = end();
    if (got != Status::invalid) status_ = Status::lost_lease;
    return got;
  }

  LeaseRing::Lease lease_;
  std::optional<ResultTable> results_;
  std::uint32_t payload_bytes_ = 0;
  std::uint32_t lanes_ = 1;
  std::uint32_t lane_ = 0;
  Status status_ = Status::lost_lease;
};

/// What a push answers: its status, and when that is ready the task's id.
struct [[nodiscard]] Pushed {
  Status status = Status::closed;
  TaskId id = 0;

  explicit operator bool() const noexcept { return status == Status::ready; }
  operator Status() const noexcept { return status; }  // NOLINT(google-explicit-constructor)
};

/// Where and when. A lane that is not there, or a delay for a queue without, is `invalid`.
struct PushOptions {
  std::uint32_t lane = 0;
  std::chrono::nanoseconds delay{0};  ///< not to be popped before
};

/// A slot of the queue, for a payload that is made in place. Dropped without commit it is given back.
template <class T>
class [[nodiscard]] Reservation {
 public:
  Reservation(Reservation&& other) noexcept
      : core_(other.core_),
        slot_(other.slot_),
        how_(other.how_),
        status_(std::exchange(other.status_, Status::closed)) {}
  Reservation& operator=(Reservation&&) = delete;
  ~Reservation() { abandon(); }

  explicit operator bool() const noexcept { return status_ == Status::ready; }
  /// ready; else why there is none: full, timeout, closed, invalid.
  Status status() const noexcept { return status_; }

  /// What the payload is made in: its bytes are those of an older one.
  T& payload() noexcept requires(!std::same_as<T, bytes>) {
    return *std::launder(reinterpret_cast<T*>(slot_.payload()));
  }
  std::span<std::byte> payload() noexcept requires(std::same_as<T, bytes>) {
    constexpr std::uint32_t head = detail::QueuePayload<bytes>::head;
    return {slot_.payload() + head, core_->shape().ring.payload_bytes - head};
  }

  /// Pushes it. Of bytes the first `length`.
  Pushed commit() noexcept requires(!std::same_as<T, bytes>) { return push(); }
  Pushed commit(std::size_t length) noexcept requires(std::same_as<T, bytes>) {
    if (status_ == Status::ready && length > payload().size()) return {Status::invalid};
    const auto stored = static_cast<std::uint32_t>(length);
    if (status_ == Status::ready) std::memcpy(slot_.payload(), &stored, sizeof stored);
    return push();
  }
  void abandon() noexcept {
    if (*this) static_cast<void>(slot_.cancel());
    status_ = Status::closed;
  }

 private:
  friend TaskQueue<T>;
  explicit Reservation(const QueueCore& core) : core_(&core) {}
  Pushed push() noexcept {
    if (status_ != Status::ready) return {status_};
    const TaskId id = core_->id(slot_.ticket(), how_.lane);
    status_ = Status::closed;
    return {core_->commit(slot_, how_.delay), id};
  }

  const QueueCore* core_;  ///< of the TaskQueue, which outlives it
  LeaseRing::Reservation slot_;
  PushOptions how_;
  Status status_ = Status::closed;
};

/// One thread's handle to a queue; copy it for another thread.
template <class T>
class TaskQueue {
  using Payload = detail::QueuePayload<T>;
  static constexpr bool is_bytes = std::is_same_v<T, heddle::bytes>;

 public:
  using Options = typename Payload::Options;
  /// What push takes: a T, or bytes.
  using Value = std::conditional_t<is_bytes, std::span<const std::byte>,
                                   std::add_lvalue_reference_t<std::add_const_t<T>>>;

  static constexpr ObjectKind kind = ObjectKind::task_queue;
  static constexpr ElementType element() {
    if constexpr (!is_bytes) {
      static_assert(std::is_trivially_copyable_v<T>,
                    "a task lies in shared memory: T is trivially copyable, or use "
                    "TaskQueue<bytes>");
      static_assert(alignof(T) <= 64);
    }
    return Payload::element();
  }
  static std::size_t bytes(const Options& options) { return checked(options).bytes(); }
  static void format(std::span<std::byte> memory, const Options& options) {
    QueueCore::format(memory, checked(options));
  }
  static void repair(std::span<std::byte> memory, const Dead& dead) noexcept {
    QueueCore::repair(memory, dead);
  }

  TaskQueue(std::span<std::byte> memory, Peers& peers) : core_(memory, found(memory), peers) {}

  // ---- producers

  /// ready, with the task's id; timeout when there was no room until `deadline`; closed; invalid: more
  /// bytes than payload_bytes, or `how` does not fit the queue.
  Pushed push(Value value, Deadline deadline = Deadline::never(), PushOptions how = {}) noexcept {
    return push_with(value, how, [&](LeaseRing::Reservation& slot) {
      return core_.reserve(slot, how.lane, deadline);
    });
  }
  /// ready; full; closed; invalid. Does not wait.
  Pushed try_push(Value value, PushOptions how = {}) noexcept {
    return push_with(value, how, [&](LeaseRing::Reservation& slot) {
      return core_.try_reserve(slot, how.lane);
    });
  }
  /// Pushes them one after the other, for lane 0: says how many, and why not more.
  std::pair<std::size_t, Status> push_n(std::span<const T> values,
                                        Deadline deadline = Deadline::never()) noexcept
      requires(!is_bytes) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (const Pushed got = push(values[i], deadline); !got) return {i, got.status};
    }
    return {values.size(), Status::ready};
  }
  /// A slot to fill in place: ready, timeout, closed, invalid.
  Reservation<T> reserve(Deadline deadline = Deadline::never(), PushOptions how = {}) noexcept {
    Reservation<T> slot(core_);
    slot.how_ = how;
    slot.status_ = fits(how) ? core_.reserve(slot.slot_, how.lane, deadline) : Status::invalid;
    return slot;
  }

  // ---- consumers

  /// A task; or timeout; or closed, when the queue was closed and no task can come any more. One
  /// that is leased may yet come back, so until then it waits: also when it is the caller's own.
  Task<T> pop(Deadline deadline = Deadline::never()) noexcept {
    Task<T> task;
    std::uint32_t lane = 0;
    task.status_ = core_.lease(task.lease_, lane, deadline);
    hand_out(task, lane);
    return task;
  }
  /// A task; or empty; or closed as above. Does not wait, but a consumer that has caught up with a
  /// busy producer falls back for a microsecond.
  Task<T> try_pop() noexcept {
    Task<T> task;
    std::uint32_t lane = 0;
    task.status_ = core_.try_lease(task.lease_, lane);
    hand_out(task, lane);
    return task;
  }
  /// Waits for one, and takes as many as are there: the first that many of `tasks`. The status is that
  /// of the first.
  std::pair<std::size_t, Status> pop_n(std::span<Task<T>> tasks,
                                       Deadline deadline = Deadline::never()) noexcept {
    if (tasks.empty()) return {0, Status::ready};
    tasks[0] = pop(deadline);
    if (!tasks[0]) return {0, tasks[0].status()};
    std::size_t count = 1;
    while (count < tasks.size() && (tasks[count] = try_pop())) ++count;
    return {count, Status::ready};
  }

  // ---- results

  /// Waits for what the task has come to: its length, which may be more than what was copied. ready;
  /// timeout; failed: it is a dead letter; expired: others have taken its place; invalid: the queue
  /// keeps no results, or never gave out such an id. Observers may ask too.
  Status result(TaskId id, std::span<std::byte> result, std::size_t& length,
                Deadline deadline = Deadline::never()) noexcept {
    return core_.result(id, result, length, deadline);
  }
  /// The same for a result of a type: invalid if it is of another size.
  template <class R>
  requires(std::is_trivially_copyable_v<R>) Status
      result(TaskId id, R& result, Deadline deadline = Deadline::never())
  noexcept {
    R copy{};
    std::size_t length = 0;
    const Status got =
        core_.result(id, std::as_writable_bytes(std::span(&copy, 1)), length, deadline);
    if (got == Status::ready && length != sizeof(R)) return Status::invalid;
    if (got == Status::ready) result = copy;
    return got;
  }

  // ---- all of it

  /// No more pushes. Who pushes or waits for room gets `closed`, who pops gets what is left.
  Status close() noexcept { return core_.close(); }
  /// Takes pushes again, whether it was drained or not.
  Status reopen() noexcept { return core_.reopen(); }
  bool is_closed() const noexcept { return core_.is_closed(); }

  /// Dead letters stay in their slots until somebody retries or drops them.
  std::vector<DeadLetter> dead_letters() const { return core_.dead_letters(); }
  /// Gives a dead letter further tries. ready; empty: there is none with this id; closed.
  Status retry(TaskId id) noexcept { return core_.retry(id); }
  /// Removes a dead letter. The same answers.
  Status drop(TaskId id) noexcept { return core_.drop(id); }

  /// By a look at every slot: for people and tests. Observers may ask too.
  QueueStats stats() const noexcept { return core_.stats(); }
  LeaseCounts count() const noexcept { return core_.count(); }
  const QueueShape& shape() const noexcept { return core_.shape(); }
  /// Of each lane.
  std::uint32_t capacity() const noexcept { return core_.shape().ring.capacity; }
  void wait_strategy(WaitStrategy strategy) noexcept { core_.wait_strategy(strategy); }

 private:
  static QueueShape checked(const Options& options) {
    QueueShape shape;
    shape.ring = {options.capacity,
                  Payload::size_in(options),
                  Payload::alignment,
                  options.delays || options.max_tries != 0 || options.lease_timeout.count() > 0,
                  options.max_tries,
                  static_cast<std::uint64_t>(options.lease_timeout.count())};
    shape.lanes = options.lanes;
    shape.result_bytes = options.result_bytes;
    shape.results =
        options.results == 0 && options.result_bytes != 0 ? options.capacity : options.results;
    shape.check();
    return shape;
  }
  static QueueShape found(std::span<std::byte> memory) {
    const auto shape = QueueShape::of(memory);
    if (!shape || !Payload::fits(*shape) || shape->ring.payload_alignment != Payload::alignment) {
      throw Error(Errc::corrupt, "task queue: the header is damaged");
    }
    return *shape;
  }

  bool fits(const PushOptions& how) const noexcept {
    return how.lane < core_.shape().lanes && (how.delay.count() <= 0 || core_.shape().ring.notes);
  }
  template <class Reserve>
  Pushed push_with(Value value, const PushOptions& how, Reserve&& reserve) noexcept {
    if (!fits(how)) return {Status::invalid};
    if constexpr (is_bytes) {
      if (value.size() > core_.shape().ring.payload_bytes - Payload::head) return {Status::invalid};
    }
    LeaseRing::Reservation slot;
    if (const Status got = reserve(slot); got != Status::ready) return {got};
    if constexpr (is_bytes) {
      const auto length = static_cast<std::uint32_t>(value.size());
      std::memcpy(slot.payload(), &length, sizeof length);
      // No bytes may lie nowhere, which memcpy does not take.
      if (!value.empty()) std::memcpy(slot.payload() + Payload::head, value.data(), value.size());
    } else {
      std::memcpy(slot.payload(), &value, sizeof(T));
    }
    const TaskId id = core_.id(slot.ticket(), how.lane);
    return {core_.commit(slot, how.delay), id};
  }
  void hand_out(Task<T>& task, std::uint32_t lane) const noexcept {
    if (!task) return;
    task.payload_bytes_ = core_.shape().ring.payload_bytes;
    task.lanes_ = core_.shape().lanes;
    task.lane_ = lane;
    if (core_.keeps_results()) task.results_.emplace(core_.results_of(lane));
  }

  QueueCore core_;
};

}  // namespace heddle

#pragma once

// heddle::TaskQueue, as the queue benchmarks ask for it.

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "heddle/base/clock.hpp"
#include "heddle/shm/segment.hpp"
#include "heddle/sync/task_queue.hpp"
#include "queue_contender.hpp"

namespace heddle::bench {

class HeddleQueue {
 public:
  using Tasks = TaskQueue<Payload>;

  explicit HeddleQueue(std::uint32_t capacity = queue_capacity)
      : segment_(Segment::anonymous({.bytes = Tasks::bytes({capacity}) + room_for_others})) {
    segment_.open<Tasks>("tasks", {capacity});
  }

  /// What each process has of it.
  class Handle {
   public:
    explicit Handle(HeddleQueue& shared)
        : segment_(Segment::adopt(shared.segment_.fd())), tasks_(segment_.find<Tasks>("tasks")) {}

    bool push(const Payload& payload) {
      const Status status = tasks_.try_push(payload);
      if (status == Status::ready) return true;
      if (status != Status::full) fail("push", status);
      return false;
    }

    template <class Use>
    bool take(Use&& use) {
      Task<Payload> task = pop();
      if (!task) return false;
      use(task.payload());
      complete(task);
      return true;
    }

    /// A task, or none.
    Task<Payload> pop() {
      Task<Payload> task = tasks_.try_pop();
      if (!task && task.status() != Status::empty) fail("pop", task.status());
      return task;
    }
    /// Waits for a task.
    Task<Payload> wait_and_pop() {
      Task<Payload> task = tasks_.pop(Deadline::after(std::chrono::seconds(10)));
      if (!task) fail("pop", task.status());
      return task;
    }
    static void complete(Task<Payload>& task) {
      if (const Status status = task.complete(); status != Status::ready) fail("complete", status);
    }

    Segment& segment() { return segment_; }
    Tasks& tasks() { return tasks_; }

   private:
    [[noreturn]] static void fail(const char* what, Status status) {
      throw Failure(std::string(what) + " answered " + to_string(status));
    }

    Segment segment_;
    Tasks tasks_;
  };

 private:
  static constexpr std::size_t room_for_others = std::size_t{1} << 18U;  // a supervisor's objects

  Segment segment_;
};

/// The same by sixteen tasks at a time.
class HeddleQueueBatches : public HeddleQueue {
 public:
  static constexpr std::size_t batch = 16;

  class Handle : public HeddleQueue::Handle {
   public:
    explicit Handle(HeddleQueueBatches& shared) : HeddleQueue::Handle(shared) {}

    std::size_t push(std::span<const Payload> payloads) {
      return tasks().push_n(payloads, Deadline::now()).first;
    }

    template <class Use>
    std::size_t take(Use&& use) {
      std::array<Task<Payload>, batch> taken;
      const std::size_t count = tasks().pop_n(taken, Deadline::now()).first;
      for (std::size_t i = 0; i < count; ++i) {
        use(taken[i].payload());
        complete(taken[i]);
      }
      return count;
    }
  };
};

/// As a channel of one_way.hpp: a task is popped when it comes, and completed when it is released.
template <Waiting waiting>
class HeddleQueueChannel {
 public:
  explicit HeddleQueueChannel(std::size_t /*bytes*/) {}
  void reset() {}

  class Writer {
   public:
    explicit Writer(HeddleQueueChannel& channel) : queue_(channel.queue_) {}
    void publish(std::span<const std::uint64_t> value) {
      if (!queue_.push(Payload(value.first<Payload::words>()))) throw Failure("the queue is full");
    }

   private:
    HeddleQueue::Handle queue_;
  };

  class Reader {
   public:
    explicit Reader(HeddleQueueChannel& channel) : queue_(channel.queue_) {
      queue_.tasks().wait_strategy(WaitStrategy::sleep);
    }
    bool poll() {
      task_ = waiting == Waiting::spins ? queue_.pop() : queue_.wait_and_pop();
      return static_cast<bool>(task_);
    }
    std::span<const std::uint64_t> value() const { return task_.payload().value(); }
    void release() { queue_.complete(task_); }

   private:
    HeddleQueue::Handle queue_;
    Task<Payload> task_;
  };

 private:
  HeddleQueue queue_;
};

}  // namespace heddle::bench

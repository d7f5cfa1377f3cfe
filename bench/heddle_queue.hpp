#pragma once

// heddle::TaskQueue, as the queue benchmarks ask for it.

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
  HeddleQueue() { segment_.open<TaskQueue<Payload>>("tasks", {.capacity = queue_capacity}); }

  /// What each process has of it.
  class Handle {
   public:
    explicit Handle(HeddleQueue& shared)
        : segment_(Segment::adopt(shared.segment_.fd())),
          queue_(segment_.find<TaskQueue<Payload>>("tasks")) {}

    bool push(const Payload& payload) {
      const Status status = queue_.try_push(payload);
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

   protected:
    /// A task, or none.
    Task<Payload> pop() {
      Task<Payload> task = queue_.try_pop();
      if (!task && task.status() != Status::empty) fail("pop", task.status());
      return task;
    }
    static void complete(Task<Payload>& task) {
      if (const Status status = task.complete(); status != Status::ready) fail("complete", status);
    }
    [[noreturn]] static void fail(const char* what, Status status) {
      throw Failure(std::string(what) + " answered " + to_string(status));
    }

    Segment segment_;
    TaskQueue<Payload> queue_;
  };

 private:
  Segment segment_ = Segment::anonymous({.bytes = std::size_t{1} << 20});
};

/// As a channel of one_way.hpp: a task is popped when it comes, and completed when it is released.
template <Waiting waiting>
class HeddleQueueChannel : HeddleQueue {
 public:
  explicit HeddleQueueChannel(std::size_t /*bytes*/) {}
  void reset() {}

  class Writer : Handle {
   public:
    explicit Writer(HeddleQueueChannel& channel) : Handle(channel) {}
    void publish(std::span<const std::uint64_t> value) {
      if (!push(Payload(value.first<Payload::words>()))) throw Failure("the queue is full");
    }
  };

  class Reader : Handle {
   public:
    explicit Reader(HeddleQueueChannel& channel) : Handle(channel) {
      queue_.wait_strategy(WaitStrategy::sleep);
    }
    bool poll() {
      task_ = waiting == Waiting::spins ? pop() : pop_asleep();
      return static_cast<bool>(task_);
    }
    std::span<const std::uint64_t> value() const { return task_.payload().value(); }
    void release() { complete(task_); }

   private:
    Task<Payload> pop_asleep() {
      Task<Payload> task = queue_.pop(Deadline::after(std::chrono::seconds(10)));
      if (!task) fail("pop", task.status());
      return task;
    }

    Task<Payload> task_;
  };
};

}  // namespace heddle::bench

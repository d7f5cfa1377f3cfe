#pragma once

// Push and pop beside tasks that take long: one more process has leased every nth place of the ring
// and keeps it. The others are free, and in between.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "heddle_queue.hpp"
#include "queue_contender.hpp"

namespace heddle::bench {

class LongLeases final : public QueueContender<HeddleQueue, 1> {
 public:
  explicit LongLeases(std::size_t every) : every_(every) {}

  int processes() const override { return QueueContender::processes() + 1; }

  void work(Member& member) override {
    if (member.rank() < QueueContender::processes()) {
      QueueContender::work(member);
    } else {
      Holder(queue_).work(member, every_);
    }
  }

 private:
  class Holder : HeddleQueue::Handle {
   public:
    using Handle::Handle;

    void work(Member& member, std::size_t every) {
      for (std::size_t i = 0; i < queue_capacity; ++i) {
        if (!push(Payload(i))) member.fail("no room for the tasks that are to be kept");
      }
      std::vector<Task<Payload>> tasks;
      for (std::size_t i = 0; i < queue_capacity; ++i) {
        tasks.push_back(pop());
        if (i % every != 0) {
          complete(tasks.back());
          tasks.pop_back();
        }
      }
      member.start();
      member.stop();
      for (std::size_t i = 0; i < tasks.size(); ++i) {
        const Payload& payload = tasks[i].payload();
        if (!payload.intact() || payload.task() != i * every) {
          member.fail("a task was overwritten under its lease");
        }
        complete(tasks[i]);
      }
    }
  };

  std::size_t every_;
};

}  // namespace heddle::bench

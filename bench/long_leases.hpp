#pragma once

// Push and pop beside tasks that take long: one more process has leased every nth place of the ring
// and keeps it. The others are free, and in between.

#include <cstddef>
#include <utility>
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
      hold(member);
    }
  }

 private:
  void hold(Member& member) {
    HeddleQueue::Handle queue(queue_);
    for (std::size_t i = 0; i < queue_capacity; ++i) {
      if (!queue.push(Payload(i))) member.fail("no room for the tasks that are to be kept");
    }
    std::vector<Task<Payload>> kept;
    for (std::size_t i = 0; i < queue_capacity; ++i) {
      Task<Payload> task = queue.pop();
      if (!task) member.fail("no task to keep");
      if (i % every_ == 0) {
        kept.push_back(std::move(task));
      } else {
        queue.complete(task);
      }
    }

    member.start();
    member.stop();
    for (std::size_t i = 0; i < kept.size(); ++i) {
      const Payload& payload = kept[i].payload();
      if (!payload.intact() || payload.task() != i * every_) {
        member.fail("a task was overwritten under its lease");
      }
      queue.complete(kept[i]);
    }
  }

  std::size_t every_;
};

}  // namespace heddle::bench

#pragma once

// moodycamel::ConcurrentQueue, in one process. It cannot be shared by processes: its parts come from
// the heap and point to each other, and it knows producers by the addresses of their thread-local
// variables, which processes have in common.

#include <concurrentqueue/concurrentqueue.h>

#include "queue_contender.hpp"

namespace heddle::bench {

class MoodycamelQueue {
 public:
  class Handle {
   public:
    explicit Handle(MoodycamelQueue& queue) : queue_(queue.queue_) {}

    bool push(const Payload& payload) { return queue_.try_enqueue(payload); }

    template <class Use>
    bool take(Use&& use) {
      Payload payload;
      if (!queue_.try_dequeue(payload)) return false;
      use(payload);
      return true;
    }

   private:
    moodycamel::ConcurrentQueue<Payload>& queue_;
  };

 private:
  moodycamel::ConcurrentQueue<Payload> queue_{queue_capacity};
};

}  // namespace heddle::bench

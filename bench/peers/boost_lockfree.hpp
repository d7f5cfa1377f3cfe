#pragma once

// boost::lockfree::queue with a fixed capacity, in shared memory: a Michael-Scott queue over an
// array, with 16-bit indices (65,534 elements at most) and 16-bit tags. A process that dies in it
// takes a node along for good.

#include <boost/lockfree/queue.hpp>

#include "queue_contender.hpp"
#include "team.hpp"

namespace heddle::bench {

class BoostQueue {
 public:
  class Handle {
   public:
    explicit Handle(BoostQueue& queue) : queue_(*queue.queue_) {}

    bool push(const Payload& payload) { return queue_.push(payload); }

    template <class Use>
    bool take(Use&& use) {
      Payload payload;
      if (!queue_.pop(payload)) return false;
      use(payload);
      return true;
    }

   private:
    boost::lockfree::queue<Payload, boost::lockfree::capacity<queue_capacity>>& queue_;
  };

 private:
  Shared<boost::lockfree::queue<Payload, boost::lockfree::capacity<queue_capacity>>> queue_;
};

}  // namespace heddle::bench

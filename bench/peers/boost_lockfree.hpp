#pragma once

// Boost.Lockfree's queues with a fixed capacity, in shared memory.
//   queue        a Michael-Scott queue over an array, with 16-bit indices (65,534 elements at most)
//                and 16-bit tags. A process that dies in it takes a node along for good
//   spsc_queue   a ring for one producer and one consumer

#include <boost/lockfree/queue.hpp>
#include <boost/lockfree/spsc_queue.hpp>

#include "queue_contender.hpp"
#include "team.hpp"

namespace heddle::bench {

template <class Lockfree>
class BoostLockfree {
 public:
  class Handle {
   public:
    explicit Handle(BoostLockfree& queue) : queue_(*queue.queue_) {}

    bool push(const Payload& payload) { return queue_.push(payload); }

    template <class Use>
    bool take(Use&& use) {
      Payload payload;
      if (!queue_.pop(payload)) return false;
      use(payload);
      return true;
    }

   private:
    Lockfree& queue_;
  };

 private:
  Shared<Lockfree> queue_;
};

using BoostQueue =
    BoostLockfree<boost::lockfree::queue<Payload, boost::lockfree::capacity<queue_capacity>>>;
using BoostSpscQueue =
    BoostLockfree<boost::lockfree::spsc_queue<Payload, boost::lockfree::capacity<queue_capacity>>>;

}  // namespace heddle::bench

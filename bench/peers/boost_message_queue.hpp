#pragma once

// A Boost.Interprocess message_queue: messages of one priority in shared memory, behind a mutex and
// two condition variables. A process that dies while it holds the mutex stops all others.

#include <unistd.h>

#include <boost/interprocess/ipc/message_queue.hpp>
#include <string>

#include "queue_contender.hpp"

namespace heddle::bench {

template <Waiting waiting>
class BoostMessageQueue {
 public:
  // The processes inherit the mapping: the name can go at once, and is not left behind.
  BoostMessageQueue() { boost::interprocess::message_queue::remove(name().c_str()); }

  class Handle {
   public:
    explicit Handle(BoostMessageQueue& queue) : queue_(queue.queue_) {}

    bool push(const Payload& payload) { return queue_.try_send(&payload, sizeof(payload), 0); }

    template <class Use>
    bool take(Use&& use) {
      Payload payload;
      boost::interprocess::message_queue::size_type size = 0;
      unsigned priority = 0;
      if constexpr (waiting == Waiting::sleeps) {
        queue_.receive(&payload, sizeof(payload), size, priority);
      } else if (!queue_.try_receive(&payload, sizeof(payload), size, priority)) {
        return false;
      }
      if (size != sizeof(payload)) throw Failure("a message came out with another size");
      use(payload);
      return true;
    }

   private:
    boost::interprocess::message_queue& queue_;
  };

 private:
  static std::string name() { return "heddle-bench-" + std::to_string(getpid()); }

  boost::interprocess::message_queue queue_{boost::interprocess::create_only, name().c_str(),
                                            queue_capacity, sizeof(Payload)};
};

}  // namespace heddle::bench

#pragma once

// A queue as a channel of one_way.hpp: from before a push until the task is in a consumer's hands.

#include <cstddef>
#include <cstdint>
#include <span>

#include "queue_contender.hpp"

namespace heddle::bench {

template <class Queue>
class QueueChannel {
 public:
  explicit QueueChannel(std::size_t /*bytes*/) {}
  void reset() {}

  class Writer {
   public:
    explicit Writer(QueueChannel& channel) : queue_(channel.queue_) {}
    void publish(std::span<const std::uint64_t> value) {
      if (!queue_.push(Payload(value.first<Payload::words>()))) throw Failure("the queue is full");
    }

   private:
    typename Queue::Handle queue_;
  };

  class Reader {
   public:
    explicit Reader(QueueChannel& channel) : queue_(channel.queue_) {}
    bool poll() {
      return queue_.take([&](const Payload& payload) { payload_ = payload; });
    }
    std::span<const std::uint64_t> value() const { return payload_.value(); }
    void release() {}

   private:
    typename Queue::Handle queue_;
    Payload payload_;
  };

 private:
  Queue queue_;
};

}  // namespace heddle::bench

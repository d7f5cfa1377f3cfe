#pragma once

// The floor of a queue's operations: a ring in the memory of one process that shares it with nobody.

#include <array>
#include <cstddef>

#include "queue_contender.hpp"

namespace heddle::bench {

class PlainRing {
 public:
  class Handle {
   public:
    explicit Handle(PlainRing& ring) : ring_(ring) {}

    bool push(const Payload& payload) {
      if (ring_.tail_ - ring_.head_ == queue_capacity) return false;
      ring_.payloads_[ring_.tail_++ % queue_capacity] = payload;
      return true;
    }

    template <class Use>
    bool take(Use&& use) {
      if (ring_.head_ == ring_.tail_) return false;
      use(ring_.payloads_[ring_.head_++ % queue_capacity]);
      return true;
    }

   private:
    PlainRing& ring_;
  };

 private:
  std::array<Payload, queue_capacity> payloads_;
  std::size_t head_ = 0;
  std::size_t tail_ = 0;
};

}  // namespace heddle::bench

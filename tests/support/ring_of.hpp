#pragma once

// The engine below a TaskQueue<T>, for tests that stop between the steps of a push.

#include <cstddef>
#include <cstring>
#include <string_view>

#include "heddle/shm/segment.hpp"
#include "heddle/sync/task_queue.hpp"
#include "support/process.hpp"

namespace heddle::test {

template <class T>
LeaseRing ring_of(Segment& segment, std::string_view queue) {
  using Queue = TaskQueue<T>;
  const auto memory = segment.directory().find(queue, Queue::kind, Queue::element(),
                                               segment.peers(), Deadline::after(patience));
  return LeaseRing(memory, *LeaseRingShape::of(memory), segment.peers());
}

/// Writes the first `bytes` of `value` to where it belongs.
template <class T>
void fill(const LeaseRing::Reservation& slot, const T& value, std::size_t bytes = sizeof(T)) {
  std::memcpy(slot.payload(), &value, bytes);
}

}  // namespace heddle::test

#pragma once

// EventRing: what the workers of one rank tell their supervisor, in order, without ever waiting.
//
// Who may call    push: the worker of this rank, which is one process at a time.
//                 pop: the supervisor that made the ring
// Progress        wait-free, both; a full ring drops the event
// State           boost::lockfree::spsc_queue: a write index, a read index, 1,024 events
// Edges           push -> pop: the queue's own.  A worker -> its successor: the supervisor has
//                 reaped the one before it forks the other
// On death        worker, before its event's index is published: the event is lost, the ring is
//                 whole, and the successor writes over that place
// Not for         what must arrive: the truth about a run stands in its boards and queues
//
// The queue trusts its own indices. They are checked on attaching; a worker that writes wild later
// could still lead its supervisor astray. That is why nobody but the supervisor that has made a ring
// reads it.

#include <boost/lockfree/spsc_queue.hpp>
#include <cstddef>
#include <cstdint>
#include <new>
#include <span>
#include <string_view>
#include <type_traits>

#include "heddle/base/atomic.hpp"
#include "heddle/base/error.hpp"
#include "heddle/shm/object.hpp"

namespace heddle {

struct WorkerEvent {
  enum class Kind : std::uint32_t { progress, epoch_done };
  Kind kind;
  std::uint32_t epoch;
  std::uint64_t step;
  std::uint64_t samples;  ///< since this worker's last event
  double loss_sum;  ///< of these samples. Sums, so that an event that was dropped can be added
};
static_assert(std::is_trivially_copyable_v<WorkerEvent> && sizeof(WorkerEvent) == 32);

class EventRing {
 public:
  static constexpr std::size_t capacity = 1024;
  struct Options {};

  static constexpr ObjectKind kind = ObjectKind::buffer;  // owned by nobody: nothing to repair
  static constexpr ElementType element() {
    ElementType type{sizeof(WorkerEvent), alignof(WorkerEvent), {}};
    constexpr std::string_view name = "worker events";
    for (std::size_t i = 0; i < name.size(); ++i) type.name[i] = name[i];
    return type;
  }
  static constexpr std::size_t bytes(const Options& /*options*/) { return sizeof(Ring); }
  static void format(std::span<std::byte> memory, const Options& /*options*/) {
    new (memory.data()) Ring;
  }

  EventRing(std::span<std::byte> memory, Peers& peers)
      : ring_(reinterpret_cast<Ring*>(memory.data())), peers_(&peers) {
    // 0 and 64: where the two indices are.
    const auto is_index = [&](std::size_t at) {
      return reinterpret_cast<const Atomic<std::uint64_t>*>(memory.data() + at)->load(relaxed) <=
             capacity;
    };
    if (memory.size() < sizeof(Ring) || !is_index(0) || !is_index(64)) {
      throw Error(Errc::corrupt, "a ring of worker events is damaged: make the segment anew");
    }
  }

  /// False: the ring is full, or this is a forked child. Add the event's sums to the next one.
  bool push(const WorkerEvent& event) noexcept { return peers_->present() && ring_->push(event); }
  /// False: there is none.
  bool pop(WorkerEvent& event) noexcept { return peers_->present() && ring_->pop(event); }

 private:
  friend struct LayoutOf;  // pins it: tests/unit/shm/layout_test.cpp
  using Ring = boost::lockfree::spsc_queue<WorkerEvent, boost::lockfree::capacity<capacity>>;
  // Part of the segment's layout, with Boost's members: two indices 64 bytes apart, one place more
  // than the capacity.
  static_assert(sizeof(Ring) == 64 + 8 + (capacity + 1) * sizeof(WorkerEvent));
  static_assert(alignof(Ring) == 8 && std::is_trivially_destructible_v<WorkerEvent>);

  Ring* ring_;
  Peers* peers_;
};
static_assert(SharedObject<EventRing>);

}  // namespace heddle

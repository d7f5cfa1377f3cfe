#pragma once

// Replica: a process's own copy of a slot's value, which stays as it is until the process brings it
// up to date. Reading it touches no shared memory; no view is held, so no publisher ever waits. follow()
// does it by a thread, which calls back.
//
//   heddle::Replica weights(slot);
//   for (;;) {
//     if (weights.poll() == heddle::Status::ready) adopt(weights.version());
//     step(weights.values());
//   }
//
// Who may call    anyone who may pull: poll works in a read-only mapping
// Progress        poll is wait-free, and one load when nothing is newer; wait blocks
// On death        of publishers: the copy stays; wait says peer_died.  It holds nothing in the segment
// Not for         several threads at once: each has its own, or looks at a const one

#include <chrono>
#include <cstddef>
#include <memory>
#include <span>
#include <stop_token>
#include <thread>
#include <utility>

#include "heddle/sync/slot.hpp"

namespace heddle {

template <class T>
class Replica {
  static constexpr bool is_array = std::is_array_v<T>;

 public:
  using Element = typename Slot<T>::Element;

  /// Has no value yet. Allocates twice the value's size, and never again. The Segment outlives it.
  explicit Replica(const Slot<T>& slot)
      : slot_(slot),
        value_(std::make_unique<Element[]>(slot.count())),
        next_(std::make_unique<Element[]>(slot.count())) {}

  /// Takes the newest value if it is newer. ready: it is there; empty: nothing newer; busy as pull:
  /// the old value stays.
  Status poll() noexcept {
    if (slot_.version() == reading_.version) return Status::empty;
    const Reading newer = pull();
    if (!newer) return newer.status;
    // A torn copy never is in value_: the two change places when one is whole.
    std::swap(value_, next_);
    reading_ = newer;
    return Status::ready;
  }

  /// Waits for a newer value and takes it. ready; timeout, peer_died, closed as Slot::wait_newer, busy
  /// as poll: the old value stays.
  Status wait(Deadline deadline, WaitStrategy strategy = WaitStrategy::adaptive) noexcept {
    const Status status = slot_.wait_newer(reading_.version, deadline, strategy);
    return status == Status::ready ? poll() : status;
  }

  /// Whether there is a value yet. Before the first, its bytes are those of an Element{}.
  explicit operator bool() const noexcept { return reading_.version != 0; }
  const Element& operator*() const noexcept requires(!is_array) { return value_[0]; }
  const Element* operator->() const noexcept requires(!is_array) { return value_.get(); }
  std::span<const Element> values() const noexcept { return {value_.get(), slot_.count()}; }

  /// Of the value that is here, with its age.
  const Reading& reading() const noexcept { return reading_; }
  Version version() const noexcept { return reading_.version; }
  /// How many publications the copy is behind. One load.
  Version behind() const noexcept { return slot_.version() - reading_.version; }

 private:
  Reading pull() noexcept {
    if constexpr (is_array) {
      return slot_.pull(std::span(next_.get(), slot_.count()));
    } else {
      return slot_.pull(next_[0]);
    }
  }

  Slot<T> slot_;
  std::unique_ptr<Element[]> value_;
  std::unique_ptr<Element[]> next_;
  Reading reading_;
};

/// Calls callback(replica) with each new value, the newest there is, from a thread of its own, which
/// ends with what this returns: within 10 ms and the callback that runs. The callback does not throw. A
/// death of publishers is not told; the next one's values follow. The Segment outlives it.
///
///   auto following = heddle::follow(slot, [&](const auto& weights) { adopt(weights.values()); });
template <class T, class Callback>
[[nodiscard]] std::jthread follow(const Slot<T>& slot, Callback callback) {
  return std::jthread([replica = Replica<T>(slot),
                       callback = std::move(callback)](const std::stop_token& stop) mutable {
    constexpr std::chrono::milliseconds slice(10);  // nothing wakes it but a publication
    while (!stop.stop_requested()) {
      const Status status = replica.wait(Deadline::after(slice), WaitStrategy::sleep);
      if (status == Status::ready) callback(std::as_const(replica));
      if (status == Status::closed) return;                                 // damaged
      if (status == Status::peer_died) std::this_thread::sleep_for(slice);  // wait is over at once
    }
  });
}

}  // namespace heddle

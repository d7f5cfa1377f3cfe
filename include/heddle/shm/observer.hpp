#pragma once

// Observer: looks into a segment without being in it, for monitors and readers that must not disturb.
//
//   auto observer = heddle::Observer::open("train-4711");
//   auto weights = observer.find<heddle::Slot<float[]>>("weights");
//   weights.wait_newer(0, heddle::Deadline::after(1s));  weights.pull(copy);
//
// The mapping is read-only: an observer has no place in the table, holds nothing, keeps no name, and
// nothing that it does or its death leaves a trace. So it reads by copy, and it waits by looking every
// 2 ms, since it cannot say that it sleeps. What would claim or write answers `closed`, or throws it.
// That a publisher has died it hears when a participant has found out.
//
// Who may call    open, find: any thread.  A forked child may go on with it
// Progress        set-up calls make system calls and throw Error
// On death        of the observer: nothing.  Of all participants: what it maps stays, as long as it does

#include <chrono>
#include <memory>
#include <string_view>

#include "heddle/shm/directory.hpp"
#include "heddle/shm/object.hpp"

namespace heddle {

class Observer {
 public:
  /// Looks into the segment of this name. Throws Error{not_found, permission, layout_mismatch,
  /// corrupt}.
  static Observer open(std::string_view name);

  Observer(Observer&&) noexcept;
  Observer& operator=(Observer&&) noexcept;
  ~Observer();

  /// The object of this name; Error{not_found} if nobody has made it, {timeout} if somebody is at it
  /// for longer than `patience`.
  template <SharedObject M>
  M find(std::string_view name, std::chrono::nanoseconds patience = std::chrono::seconds(5)) {
    static_assert(M::kind != ObjectKind::buffer,
                  "a shared buffer is a span that can be written: join the segment to have one");
    return M(directory().find(name, M::kind, M::element(), peers(), Deadline::after(patience)),
             peers());
  }

  Directory& directory() noexcept;
  /// For handles that are not made by find(). Stays where it is when the Observer moves.
  Peers& peers() noexcept;

 private:
  class Mapping;
  explicit Observer(std::unique_ptr<Mapping> mapping);
  std::unique_ptr<Mapping> mapping_;
};

}  // namespace heddle

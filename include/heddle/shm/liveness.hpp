#pragma once

// Liveness by kernel locks: a process is alive exactly as long as its lock is held.
//
// A lock of an open file description (F_OFD_SETLK) lives as long as that description. The token's
// description is kept by one mapped page alone: its descriptor is closed at once, so no stray
// close() drops it; the page is MADV_DONTFORK, so no fork inherits it; exec and death of any kind
// unmap it. No heartbeat, no pid that is used again, no daemon.
//
// Bytes of the segment's file (far past its end: locks need no bytes behind them):
//   remove_byte      read lock: about to join.  write lock: about to unlink the name
//   token_base + t   write lock: incarnation t lives

#include <cstdint>

#include "heddle/shm/file_descriptor.hpp"

namespace heddle {

class LivenessToken {
 public:
  LivenessToken() = default;
  /// Locks the byte of incarnation `t` in the file behind `fd`. Throws Error{corrupt} if it is
  /// locked already. A fork() in another thread waits meanwhile: its child would keep the token.
  /// (A raw clone does not, for microseconds.)
  static LivenessToken take(int fd, std::uint64_t t);
  LivenessToken(LivenessToken&& other) noexcept : page_(other.page_) { other.page_ = nullptr; }
  LivenessToken& operator=(LivenessToken&& other) noexcept;
  ~LivenessToken() { drop(); }

  /// Ends the life of this incarnation.
  void drop() noexcept;
  /// In a forked child: the page is not there, and its address may be another's.
  void forget() noexcept { page_ = nullptr; }

 private:
  explicit LivenessToken(void* page) : page_(page) {}
  void* page_ = nullptr;
};

/// Whether incarnation `t` is alive. `fd` is not the token's own. One system call, 0.5 to 3 us.
bool token_held(int fd, std::uint64_t t) noexcept;

/// Whether any incarnation at all is alive.
bool any_token_held(int fd) noexcept;

/// The right to join or to remove, held until destroyed. On a description of its own: a child
/// forked earlier keeps nothing of it.
class NameLock {
 public:
  enum class For { joining, removing };
  /// Waits up to a second for the others, each of which needs microseconds; throws
  /// Error{timeout} then.
  NameLock(int fd, For purpose);
  ~NameLock();
  NameLock(const NameLock&) = delete;
  NameLock& operator=(const NameLock&) = delete;

 private:
  FileDescriptor file_;
};

}  // namespace heddle

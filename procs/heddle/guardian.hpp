#pragma once

// Guardian: ends what a process has started, when that process dies of whatever: the kernel ends only
// its children (PR_SET_PDEATHSIG), not what these have started.
//
// It is a fork that waits for its parent's death, and kills the process groups that stand in a page
// which both share. A process that leaves its group (setsid) is not found.

#include <sys/types.h>

#include <atomic>
#include <cstddef>

namespace heddle {

class Guardian {
 public:
  static constexpr std::size_t most = 1024;

  /// Forks. Throws Error{system}.
  Guardian();
  /// Ends it; those it watches live on.
  ~Guardian();
  Guardian(const Guardian&) = delete;
  Guardian& operator=(const Guardian&) = delete;

  /// From here on `place` is this group; 0: nobody, to be said before the group's leader is reaped.
  void watch(std::size_t place, pid_t group) noexcept;
  /// Forks again if it has been killed.
  void look_after();

 private:
  void start();
  [[noreturn]] void keep_watch(pid_t parent) const noexcept;

  std::atomic<pid_t>* groups_;
  pid_t pid_ = -1;
};

}  // namespace heddle

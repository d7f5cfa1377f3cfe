#pragma once

// StopSignals: while one exists, SIGINT, SIGTERM and SIGHUP do not end the program but wait to be
// taken, from a descriptor that can be polled.
//
// Who may call    the thread that made it. They are blocked in this thread, and in those that it
//                 starts from then on; other threads would still be ended by them: make it first
// Nesting         a Supervisor has one of its own. A program that must clean up after itself (a
//                 segment's name) makes another before everything else: what the inner one has not
//                 taken then waits for the outer one
// Afterwards      signals that nobody took have their ordinary effect when the last one is gone:
//                 the program dies of them, which is what its parent wants to see
//
// SIGHUP is left alone where it is ignored, as nohup does. SIGINT is taken even then: shells make
// background jobs of scripts ignore it, but who sends it to one still means it.

#include <signal.h>

#include "heddle/shm/file_descriptor.hpp"

namespace heddle {

class StopSignals {
 public:
  StopSignals();  ///< throws Error
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  /// The next signal; 0 when there is none. Does not block.
  int take() noexcept;
  int fd() const noexcept { return file_.get(); }  ///< readable when there is one

 private:
  sigset_t before_;
  FileDescriptor file_;
};

}  // namespace heddle

#pragma once

// Supervisor: starts workers, sees each death at once, recovers what the dead held in the segment,
// and starts them again.
//
// Who may call    the thread that made it, and it must outlive the workers: they are killed when
//                 the thread that has forked them ends (PR_SET_PDEATHSIG)
// Progress        poll blocks until its deadline; stop until the workers have left, at most for
//                 `grace` and what the kernel needs to end a killed process
// A worker is     fork + exec of `command`, with HEDDLE_RANK, HEDDLE_SIZE, and HEDDLE_SEGMENT (a
//                 name) or HEDDLE_SEGMENT_FD (an anonymous segment). It has our standard output and
//                 error and that descriptor, no other; its input is /dev/null. No signal is
//                 blocked, none ignored but SIGINT and SIGHUP, which a terminal sends to everybody:
//                 what they mean is decided here
// On death        worker, at any moment from its fork on: recovered, then reaped, then started again
//                 supervisor: the kernel kills the workers; the name of the segment stays, until it
//                 is created again or cleared
// Children        are watched by pidfds, so no pid is mistaken for an earlier one's. Nobody else may
//                 reap them (no waitpid(-1)); SIGCHLD is set to its default if it was ignored
// One at a time   in a segment: it reads the workers' event rings
// Not for         a worker that lives and makes no progress; the children of workers, which are
//                 theirs to end

#include <chrono>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "heddle/base/clock.hpp"
#include "heddle/run/event_ring.hpp"
#include "heddle/run/stop_signals.hpp"
#include "heddle/shm/segment.hpp"

namespace heddle {

struct Launch;

class Supervisor {
 public:
  /// The exit code of a worker that would only fail again: the run is given up.
  static constexpr int bad_input = 2;

  struct Options {
    std::vector<std::string> command;  ///< the program (a path, or found in PATH) and its arguments
    std::uint32_t workers = 1;
    std::uint32_t max_restarts = 100;                          ///< of all workers together
    std::chrono::nanoseconds grace = std::chrono::seconds(2);  ///< from SIGTERM to SIGKILL
    bool pin = false;  ///< rank r runs on the (r mod n)th of the n cores that we may use
    std::vector<std::pair<std::string, std::string>> environment;  ///< beside what we have
  };

  struct Happening {
    enum class Kind {
      started,   ///< a worker, for the first time or again
      died,      ///< of a signal or with an exit code; it will be started again, or gave_up follows
      finished,  ///< a worker has exited with 0
      gave_up,   ///< the run has failed, and `text` says why; the other workers still live
      interrupted,  ///< SIGINT, SIGTERM or SIGHUP has come: time to stop()
    };
    Kind kind;
    std::uint32_t rank = 0;  ///< of started, died, finished
    pid_t pid = 0;           ///< likewise
    int signal = 0;          ///< that it died of (0: it exited), or that has come
    int code = 0;            ///< that it exited with
    std::int64_t at = 0;     ///< CLOCK_MONOTONIC, nanoseconds
    std::string text;        ///< one line for people
  };

  enum class State {
    running,
    finished,  ///< every worker has finished
    failed,    ///< gave_up
    stopped,   ///< by stop(), before either
  };

  /// Room that the event rings take in the segment. The segment also needs an object for each
  /// worker, and participants for the workers and for this process.
  static std::size_t segment_bytes(std::uint32_t workers);

  /// Starts nothing yet: poll does. `segment` outlives it and does not move. Throws Error.
  Supervisor(Segment& segment, Options options);
  ~Supervisor();  ///< stop()
  Supervisor(const Supervisor&) = delete;
  Supervisor& operator=(const Supervisor&) = delete;

  /// Starts the workers that are due, waits until something happens, and tells what. Nothing: the
  /// deadline has passed, or there is nothing more to wait for.
  std::vector<Happening> poll(Deadline deadline);

  /// Asks the workers to leave and kills those that have not left after `grace`, or when another of
  /// the signals comes; all are recovered and reaped then.
  void stop() noexcept;

  State state() const noexcept { return state_; }
  std::uint32_t restarts() const noexcept { return restarts_; }
  /// What the workers of this rank tell. Stays readable after they have gone.
  EventRing& events(std::uint32_t rank) noexcept;

 private:
  struct Rank;

  void give_up(const std::string& why, std::vector<Happening>& seen);
  void start_due(std::vector<Happening>& seen);
  void take_signals(std::vector<Happening>& seen);
  void take_endings(std::vector<Happening>& seen);
  void judge(Rank& rank, const Happening& ending, std::vector<Happening>& seen);
  void recover(pid_t pid) noexcept;
  void wait(Deadline deadline) noexcept;
  Launch launch_of(std::uint32_t rank) const;

  Segment& segment_;
  Options options_;
  std::string program_;
  pid_t process_;
  FileDescriptor segment_file_;  // a copy for the workers to inherit; none when there is a name
  StopSignals signals_;
  std::vector<Rank> ranks_;
  State state_ = State::running;
  std::uint32_t restarts_ = 0;
};

}  // namespace heddle

#pragma once

// Worker: all that a program needs to be a worker of a Supervisor.
//
//   int main() {
//     heddle::Worker worker = heddle::Worker::from_environment();
//     auto tasks = worker.segment().find<heddle::TaskQueue>("tasks");
//     while (!worker.stop_requested()) { ... worker.report(event); }
//   }
//
// Who may call    any thread; report one at a time
// Ends            0: its work is done.  Supervisor::bad_input: starting it again would not help.
//                 Anything else, and any signal: it is started again, with the same rank
// Stopping        SIGTERM sets a flag and nothing more. Waits of the mechanisms have deadlines: look
//                 at stop_requested() between them, and leave. After a grace period comes SIGKILL

#include <cstdint>
#include <string>

#include "heddle/run/event_ring.hpp"
#include "heddle/shm/segment.hpp"

namespace heddle {

class Worker {
 public:
  /// Joins the segment that the supervisor has named in HEDDLE_SEGMENT or HEDDLE_SEGMENT_FD, as
  /// HEDDLE_RANK of HEDDLE_SIZE, and takes over SIGTERM for the rest of the process. Throws Error.
  static Worker from_environment();

  std::uint32_t rank() const noexcept { return rank_; }
  std::uint32_t size() const noexcept { return size_; }
  Segment& segment() noexcept { return segment_; }

  /// Tells the supervisor. False: it is behind, and the event is dropped. Wait-free.
  bool report(const WorkerEvent& event) noexcept { return events_.push(event); }

  /// Whether the supervisor wants this worker to leave.
  bool stop_requested() const noexcept;

 private:
  Worker(std::uint32_t rank, std::uint32_t size, Segment segment);

  std::uint32_t rank_;
  std::uint32_t size_;
  Segment segment_;
  EventRing events_;
};

/// The name of a rank's EventRing in the segment.
std::string event_ring_name(std::uint32_t rank);

}  // namespace heddle

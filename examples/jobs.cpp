// A pool of worker processes that takes tasks from a queue. Kill any worker: its task is done by
// another, and it is started again.
//
//   ./example_jobs

#include <cstdio>
#include <string_view>

#include "heddle/run/supervisor.hpp"
#include "heddle/run/worker.hpp"
#include "heddle/shm/segment.hpp"
#include "heddle/shm/shared_buffer.hpp"
#include "heddle/sync/task_queue.hpp"

using heddle::Deadline;
using heddle::Status;
using heddle::Supervisor;

namespace {

struct Job {
  std::uint64_t number;
};
using Jobs = heddle::TaskQueue<Job>;
using Results = heddle::SharedBuffer<std::uint64_t>;

constexpr std::uint64_t job_count = 10'000;

int work() {
  auto worker = heddle::Worker::from_environment();
  auto jobs = worker.segment().find<Jobs>("jobs");
  auto results = worker.segment().find<Results>("results");
  while (auto task = jobs.pop()) {  // until the queue is closed and everything is done
    const std::uint64_t n = task.payload().number;
    results[n] = n * n;  // done again after a death: writing it twice does no harm
    if (task.complete() != Status::ready) return 1;
  }
  return 0;
}

int supervise(const char* program) {
  auto segment = heddle::Segment::anonymous({.bytes = std::size_t{4} << 20});
  auto jobs = segment.open<Jobs>("jobs", {.capacity = 1 << 14});
  auto results = segment.open<Results>("results", {job_count});
  for (std::uint64_t n = 0; n < job_count; ++n) {
    if (jobs.push({n}) != Status::ready) return 1;
  }
  if (jobs.close() != Status::ready) return 1;

  Supervisor::Options options;
  options.command = {program, "worker"};
  options.workers = 4;
  Supervisor supervisor(segment, options);
  while (supervisor.state() == Supervisor::State::running) {
    for (const auto& happening : supervisor.poll(Deadline::never())) {
      if (happening.kind == Supervisor::Happening::Kind::interrupted) supervisor.stop();
    }
  }
  for (std::uint64_t n = 0; n < job_count; ++n) {
    if (results[n] != n * n) return 1;
  }
  std::printf("%lu jobs done, %u restarts\n", job_count, supervisor.restarts());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return argc > 1 && std::string_view(argv[1]) == "worker" ? work() : supervise(argv[0]);
  } catch (const heddle::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}

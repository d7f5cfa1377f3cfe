#include "queue_push.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <span>
#include <string_view>
#include <utility>

#include "heddle/base/error.hpp"
#include "open_queue.hpp"
#include "open_slot.hpp"
#include "option_checks.hpp"
#include "status_line.hpp"
#include "streams.hpp"

namespace heddle {
namespace {

using namespace std::chrono_literals;

constexpr auto look_again = 20ms;  // for a signal, which does not wake
constexpr std::uint32_t usual_payload = 4096;
constexpr std::uint32_t usual_tries = 3;

struct PushedFile {
  std::string name;
  std::vector<std::byte> bytes;
};

std::vector<PushedFile> read_files(const std::vector<std::string>& names, StopSignals& signals) {
  std::vector<PushedFile> files;
  for (const std::string& name : names) {
    Input input(name, signals);
    files.push_back({input.name(), input.read_bytes(SIZE_MAX)});
  }
  return files;
}

TaskQueue<bytes>::Options shape_of(const QueuePushOptions& options,
                                   const std::vector<PushedFile>& files) {
  TaskQueue<bytes>::Options shape;
  shape.payload_bytes = options.payload.value_or(usual_payload);
  for (const PushedFile& file : files) {
    if (options.payload || file.bytes.size() > LeaseRingShape::most_payload) continue;
    shape.payload_bytes =
        std::max(shape.payload_bytes, static_cast<std::uint32_t>(file.bytes.size()));
  }
  shape.capacity = options.capacity.value_or(shape.capacity);
  shape.lanes = options.lanes.value_or(1);
  shape.max_tries = options.max_tries.value_or(usual_tries);
  shape.lease_timeout = std::chrono::duration_cast<std::chrono::milliseconds>(
      seconds(options.lease_timeout.value_or(0)));
  shape.delays = true;  // so that work can wait before it tries again
  shape.result_bytes = options.results.value_or(0);
  return shape;
}

// Another push may make it at the same time, and another must not make it otherwise than asked.
OpenQueue open_queue(Segment& segment, const QueueAddress& address,
                     const TaskQueue<bytes>::Options& shape) {
  auto found = find_queue(segment.directory(), segment.peers(), address);
  if (!found) {
    static_cast<void>(segment.open<TaskQueue<bytes>>(address.queue, shape));
    found = find_queue(segment.directory(), segment.peers(), address);
  }
  if (!found) throw_no_queue(address, &segment.directory());
  return std::move(*found);
}

class Push {
 public:
  Push(const QueuePushOptions& options, StopSignals& signals)
      : options_(options),
        signals_(signals),
        address_(parse_queue_address(options.queue)),
        files_(read_files(options.files, signals)),
        joined_(join()),
        queue_(joined_.queue().of_bytes(address_, joined_.segment().peers(), "push")),
        most_(queue_.shape().ring.payload_bytes - detail::QueuePayload<bytes>::head),
        output_("-", signals) {
    check_shape();
  }

  int run() {
    try {
      for (const PushedFile& file : files_) push(file.bytes, file.name);
      if (files_.empty()) push_lines();
      if (options_.close) static_cast<void>(queue_.close());
      return holds_ ? hold() : 0;
    } catch (const Stopped&) {
      status_.clear();
      if (holds_) joined_.interrupted(address_);
      throw;
    }
  }

 private:
  JoinedQueue join() {
    const auto shape = shape_of(options_, files_);
    const std::size_t room = TaskQueue<bytes>::bytes(shape) + options_.room;
    auto segment = open_segment(address_.segment);
    // As pub: it looks when it starts, not when somebody has come meanwhile for the tasks.
    const bool alone = !segment || segment->participants().size() == 1;
    holds_ = options_.hold || (alone && !options_.no_hold);
    if (!segment) segment = open_or_create_segment(address_.segment, {.bytes = room});
    OpenQueue queue = open_queue(*segment, address_, shape);
    return {std::move(*segment), std::move(queue)};
  }

  void check_shape() const {
    const QueueShape& has = queue_.shape();
    const auto check = [&](const char* option, auto asked, std::uint64_t in_queue) {
      if (!asked || *asked == in_queue) return;
      throw Error(
          Errc::type_mismatch,
          fmt::format("task queue {} is there and has {} {}, not {}: leave the option out, or "
                      "choose another name",
                      address_.text(), option, in_queue, *asked));
    };
    check("--capacity", options_.capacity, has.ring.capacity);
    check("--max-tries", options_.max_tries, has.ring.max_tries);
    check("--lanes", options_.lanes, has.lanes);
    check("--payload", options_.payload, most_);
    check("--results", options_.results, has.result_bytes);
    std::optional<std::uint64_t> timeout_ms;
    if (options_.lease_timeout) {
      timeout_ms = static_cast<std::uint64_t>(seconds(*options_.lease_timeout) / 1ms);
    }
    check("--lease-timeout (in ms)", timeout_ms, has.ring.lease_timeout_ms);
    if (options_.lane >= has.lanes) {
      throw Error(Errc::invalid_argument,
                  fmt::format("--lane {} is none of the {} of {}: they are counted from 0",
                              options_.lane, has.lanes, address_.text()));
    }
    if (options_.delay > 0 && !has.ring.notes) {
      throw Error(Errc::invalid_argument,
                  fmt::format("{} was made without delays: leave --delay out", address_.text()));
    }
  }

  void push_lines() {
    Input input("-", signals_);
    for (std::uint64_t number = 1;; ++number) {
      const auto line = input.line();
      if (!line) return;
      push(std::as_bytes(std::span(*line)), fmt::format("{}, line {}", input.name(), number));
    }
  }

  void push(std::span<const std::byte> task, const std::string& where) {
    if (task.size() > most_) {
      throw Error(
          Errc::bad_data,
          fmt::format("{}: it has {} bytes, a task of {} has at most {}: make the queue with "
                      "--payload {}",
                      where, task.size(), address_.text(), most_, task.size()));
    }
    const PushOptions how{options_.lane, seconds(options_.delay)};
    Pushed got = queue_.try_push(task, how);
    if (got.status == Status::full && status_.is_terminal()) {
      status_.draw(fmt::format("{} is full ({} tasks): waiting for its workers", address_.text(),
                               queue_.capacity()));
    }
    while (got.status == Status::full || got.status == Status::timeout) {
      wait_for_descriptor(-1, 0, 0, signals_);
      got = queue_.push(task, Deadline::after(look_again), how);
    }
    if (got.status == Status::closed) {
      throw Error(Errc::closed,
                  fmt::format("{}: {} is closed: \"heddle queue reopen {}\" opens it again", where,
                              address_.text(), address_.text()));
    }
    if (!got) throw Error(Errc::system, fmt::format("{}: {}", where, to_string(got.status)));
    ++pushed_;
    if (options_.json) output_.write(line_of({{"event", "pushed"}, {"id", got.id}}));
  }

  // A segment goes with the last who is in it.
  int hold() {
    const bool until_stopped = options_.hold || queue_.shape().results != 0;
    status_.clear();
    if (options_.json) {
      output_.write(line_of({{"event", "holding"}, {"pushed", pushed_}}));
    } else {
      output_.write(fmt::format("pushed {} task{} to {}; the segment stays until {}\n", pushed_,
                                pushed_ == 1 ? "" : "s", address_.text(),
                                until_stopped ? "Ctrl-C" : "all are done, or Ctrl-C"));
    }
    for (std::int64_t cost = 0;;
         wait_for_descriptor(-1, 0, std::max(look_again / 1ns, 20 * cost), signals_)) {
      const std::int64_t start = monotonic_ns();
      joined_.segment().recover_dead();  // so that nothing is leased to the dead
      const QueueStats stats = queue_.stats();
      cost = monotonic_ns() - start;
      const std::uint64_t left = stats.now.filling + stats.now.waiting + stats.now.leased;
      if (left == 0 && !until_stopped) return end(stats.now.dead);
      if (status_.is_due()) {
        status_.draw(fmt::format("waiting {}  leased {}  dead letters {}", stats.now.waiting,
                                 stats.now.leased, stats.now.dead));
      }
    }
  }

  int end(std::uint64_t dead) {
    status_.clear();
    if (options_.json) output_.write(line_of({{"event", "drained"}, {"dead_letters", dead}}));
    if (dead == 0) return 0;
    std::fprintf(stderr,
                 "heddle: all tasks of %s have ended, %llu as dead letters, which stay: \"heddle "
                 "queue dead %s\" lists them\n",
                 address_.text().c_str(), static_cast<unsigned long long>(dead),
                 address_.text().c_str());
    return 1;
  }

  const QueuePushOptions& options_;
  StopSignals& signals_;
  const QueueAddress address_;
  const std::vector<PushedFile> files_;
  bool holds_ = false;  // join() decides
  JoinedQueue joined_;
  TaskQueue<bytes> queue_;
  const std::size_t most_;
  Output output_;
  StatusLine status_;
  std::uint64_t pushed_ = 0;
};

}  // namespace

void add_queue_push(CLI::App& queue, QueuePushOptions& options) {
  CLI::App* push = queue.add_subcommand("push", "push tasks: each line of standard input is one");
  push->add_option("SEGMENT/QUEUE", options.queue, queue_address_help)->required()->type_name("");
  push->add_option("--file", options.files, "push this whole file as one task; may be repeated")
      ->type_name("FILE")
      ->allow_extra_args(false);
  push->add_option("--lane", options.lane, "of the queue's lanes: those of lane 0 go first [0]");
  push->add_option("--delay", options.delay, "seconds before which nobody gets them [0]");
  push->add_flag("--close", options.close, "close the queue then: workers end when all is done");
  CLI::Option* hold =
      push->add_flag("--hold", options.hold, "stay until Ctrl-C after the last task");
  push->add_flag("--no-hold", options.no_hold, "end after the last task")->excludes(hold);
  push->add_flag("--json", options.json, "print one JSON object a line: the ids of the tasks");
  push->add_option("--capacity", options.capacity,
                   "of a new queue: tasks that wait or are at work, a power of two [1024]");
  push->add_option("--max-tries", options.max_tries,
                   "of a new queue: then a task is a dead letter; 0: never [3]");
  push->add_option(
      "--lease-timeout", options.lease_timeout,
      "of a new queue: seconds after which a worker that does not move loses its task");
  push->add_option("--lanes", options.lanes, "of a new queue: 1 to 8 [1]");
  push->add_option("--payload", options.payload,
                   "of a new queue: bytes that a task has at most [4096; the longest --file]");
  push->add_option("--results", options.results,
                   "of a new queue: keep what tasks come to, so many bytes each at most");
  push->add_option("--room", options.room, "bytes for further objects in a new segment")
      ->capture_default_str();
  check_whole(*push, {"--lane", "--capacity", "--max-tries", "--lanes", "--payload", "--results",
                      "--room"});
  check_decimal(*push, {"--delay", "--lease-timeout"});
  push->footer(
      "Segment and queue are made if they are not there. Waits while the queue is full. A segment\n"
      "lives as long as a process is in it: so who finds nobody else in it stays until all tasks\n"
      "are done (where results are kept: until Ctrl-C). Its Ctrl-C takes along what is left; with\n"
      "--no-hold it ends at once, and segment and tasks wait in /dev/shm for who comes next.\n"
      "Ends with 1 if it stayed and some are dead letters.");
}

int queue_push(const QueuePushOptions& options) {
  if (!(options.delay >= 0 && options.delay <= 1e9)) {
    throw Error(Errc::invalid_argument, "--delay must be 0 to 1000000000 seconds");
  }
  if (options.lease_timeout && !(*options.lease_timeout >= 0 && *options.lease_timeout <= 1e6)) {
    throw Error(Errc::invalid_argument, "--lease-timeout must be 0 to 1000000 seconds");
  }
  return run_until_stopped([&](StopSignals& signals) { return Push(options, signals).run(); });
}

}  // namespace heddle

#pragma once

// The task queue that a command line names, whatever its tasks are.

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>

#include "heddle/shm/observer.hpp"
#include "heddle/shm/segment.hpp"
#include "heddle/sync/task_queue.hpp"
#include "streams.hpp"

namespace heddle {

/// SEGMENT/QUEUE on a command line, and in messages.
struct QueueAddress {
  std::string segment;
  std::string queue;

  std::string text() const { return segment + "/" + queue; }
};
constexpr const char* queue_address_help =
    "the queue, by its segment's name and its own: demo/jobs";

/// Throws Error{invalid_argument}.
QueueAddress parse_queue_address(const std::string& text);

/// Tasks of any type are slots here, with the words of all queues; the type is what the directory has
/// recorded.
struct OpenQueue {
  ElementType element;
  std::span<std::byte> memory;
  QueueCore core;

  /// The payloads as bytes. Throws Error{type_mismatch} that names both types, and what `command` cannot
  /// do.
  TaskQueue<bytes> of_bytes(const QueueAddress& address, Peers& peers, const char* command) const;
};

/// Nothing when there is none. Throws Error{type_mismatch} when it is no queue, {corrupt}.
std::optional<OpenQueue> find_queue(Directory& directory, Peers& peers,
                                    const QueueAddress& address);
/// Says that there is none, by a std::runtime_error: the command was right, and has failed.
[[noreturn]] void throw_no_queue(const QueueAddress& address, Directory* directory);

/// A segment that this process has joined for its queue's sake.
///
/// Who leaves a segment last removes it, and would take the tasks along. So who ends while there are
/// tasks or dead letters does not leave: for others it is as if it had been killed, and they find its
/// place dead and everything there.
class JoinedQueue {
 public:
  JoinedQueue(Segment segment, OpenQueue queue)
      : segment_(std::make_unique<Segment>(std::move(segment))), queue_(std::move(queue)) {}
  ~JoinedQueue();
  JoinedQueue(const JoinedQueue&) = delete;
  JoinedQueue& operator=(const JoinedQueue&) = delete;

  Segment& segment() { return *segment_; }
  OpenQueue& queue() { return queue_; }
  QueueStats stats() const { return queue_.core.stats(); }
  /// It was interrupted: leaves after all, and says how many tasks go when nobody else is there.
  void interrupted(const QueueAddress& address);

 private:
  std::unique_ptr<Segment> segment_;
  OpenQueue queue_;
  bool leaves_ = false;
};

/// Joins the segment of a queue that is there. Throws what throw_no_queue does.
JoinedQueue join_queue(const QueueAddress& address);
/// Waits for the segment and the queue to come, until `deadline`; looks every 20 ms. Throws likewise.
JoinedQueue await_queue(const QueueAddress& address, Deadline deadline, StopSignals& signals);

using Json = nlohmann::ordered_json;
/// Bytes as text if they are UTF-8, else in hexadecimal as NAME_hex.
void put_bytes(Json& event, const std::string& name, std::span<const std::byte> value);
/// One line.
std::string line_of(const Json& event);

/// A whole number of seconds or parts of one.
std::chrono::nanoseconds seconds(double number);

}  // namespace heddle

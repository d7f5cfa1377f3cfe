#include "open_queue.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "heddle/base/error.hpp"
#include "open_slot.hpp"

namespace heddle {
namespace {

constexpr std::int64_t look_again = 20'000'000;  // for a name, and a signal: they do not wake

std::string describe(const ElementType& type) {
  const auto* end = std::find(std::begin(type.name), std::end(type.name), '\0');
  const std::string name(std::begin(type.name), end);
  return type.size == 1 ? name : fmt::format("{} ({} bytes each)", name, type.size);
}

std::uint64_t kept(const QueueStats& stats) {
  return stats.now.waiting + stats.now.leased + stats.now.filling + stats.now.dead;
}

}  // namespace

QueueAddress parse_queue_address(const std::string& text) {
  const std::size_t slash = text.find('/');
  if (slash == text.npos || slash == 0 || slash + 1 == text.size()) {
    throw Error(Errc::invalid_argument,
                fmt::format("\"{}\" names no queue: say SEGMENT/QUEUE, as in demo/jobs", text));
  }
  return {text.substr(0, slash), text.substr(slash + 1)};
}

TaskQueue<bytes> OpenQueue::of_bytes(const QueueAddress& address, Peers& peers,
                                     const char* command) const {
  if (element != TaskQueue<bytes>::element()) {
    throw Error(
        Errc::type_mismatch,
        fmt::format("{} is a task queue of {}, and \"heddle queue {}\" is for a task queue of "
                    "bytes: use the program that made it",
                    address.text(), describe(element), command));
  }
  return {memory, peers};
}

std::optional<OpenQueue> find_queue(Directory& directory, Peers& peers,
                                    const QueueAddress& address) {
  std::optional<OpenQueue> found;
  directory.for_each([&](std::string_view name, const Directory::Spec& spec,
                         std::span<std::byte> memory) {
    if (name != address.queue) return;
    if (spec.kind != ObjectKind::task_queue) {
      throw Error(Errc::type_mismatch, fmt::format("{} is a {}, not a task queue", address.text(),
                                                   to_string(spec.kind)));
    }
    const auto shape = QueueShape::of(memory);
    if (!shape) {
      throw Error(Errc::corrupt,
                  fmt::format("task queue {} is damaged: make the segment anew", address.text()));
    }
    found.emplace(OpenQueue{spec.element, memory, QueueCore(memory, *shape, peers)});
  });
  return found;
}

void throw_no_queue(const QueueAddress& address, Directory* directory) {
  if (directory == nullptr) {
    throw std::runtime_error(
        fmt::format("there is no segment \"{0}\": \"heddle queue push {1}\" makes it",
                    address.segment, address.text()));
  }
  std::string names;
  directory->for_each(
      [&](std::string_view name, const Directory::Spec& spec, std::span<std::byte>) {
        if (spec.kind != ObjectKind::task_queue) return;
        names += fmt::format("{}\"{}\"", names.empty() ? "" : ", ", name);
      });
  throw std::runtime_error(fmt::format("there is no task queue \"{}\" in segment \"{}\"; it has {}",
                                       address.queue, address.segment,
                                       names.empty() ? "none" : names));
}

JoinedQueue::~JoinedQueue() {
  if (leaves_ || kept(stats()) == 0) return;
  [[maybe_unused]] static Segment* stays = nullptr;  // as long as the process
  stays = segment_.release();
}

void JoinedQueue::interrupted(const QueueAddress& address) {
  leaves_ = true;
  const std::uint64_t left = kept(stats());
  if (left == 0 || segment_->participants().size() > 1) return;
  std::fprintf(stderr, "heddle: %llu task%s of %s went with the segment: nobody else was in it\n",
               static_cast<unsigned long long>(left), left == 1 ? "" : "s", address.text().c_str());
}

JoinedQueue join_queue(const QueueAddress& address) {
  auto segment = open_segment(address.segment);
  if (!segment) throw_no_queue(address, nullptr);
  auto queue = find_queue(segment->directory(), segment->peers(), address);
  if (!queue) throw_no_queue(address, &segment->directory());
  return {std::move(*segment), std::move(*queue)};
}

JoinedQueue await_queue(const QueueAddress& address, Deadline deadline, StopSignals& signals) {
  std::optional<Segment> segment;
  for (;;) {
    if (!segment) segment = open_segment(address.segment);
    if (segment) {
      auto queue = find_queue(segment->directory(), segment->peers(), address);
      if (queue) return {std::move(*segment), std::move(*queue)};
    }
    if (deadline.left(monotonic_ns()) <= 0) {
      throw_no_queue(address, segment ? &segment->directory() : nullptr);
    }
    wait_for_descriptor(-1, 0, look_again, signals);
  }
}

void put_bytes(Json& event, const std::string& name, std::span<const std::byte> value) {
  const Json text = std::string(reinterpret_cast<const char*>(value.data()), value.size());
  try {
    static_cast<void>(text.dump());  // it looks whether this is UTF-8
    event[name] = text;
  } catch (const Json::type_error&) {
    std::string digits;
    for (const std::byte byte : value) digits += fmt::format("{:02x}", std::to_integer<int>(byte));
    event[name + "_hex"] = digits;
  }
}

std::string line_of(const Json& event) {
  return event.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::chrono::nanoseconds seconds(double number) {
  constexpr double longest = 1e9;
  return std::chrono::nanoseconds(static_cast<std::int64_t>(std::min(number, longest) * 1e9));
}

}  // namespace heddle

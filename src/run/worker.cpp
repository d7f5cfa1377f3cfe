#include "heddle/run/worker.hpp"

#include <fcntl.h>
#include <signal.h>

#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>

#include "heddle/base/error.hpp"

namespace heddle {
namespace {

// Of the process and not of a Worker: signal handlers are, too.
std::atomic<bool> stop_flag{false};
static_assert(std::atomic<bool>::is_always_lock_free, "set by a signal handler");

[[noreturn]] void throw_not_a_worker(const std::string& what) {
  throw Error(Errc::invalid_argument,
              what +
                  ": a worker is started by a supervisor, which sets HEDDLE_SEGMENT or "
                  "HEDDLE_SEGMENT_FD, HEDDLE_RANK and HEDDLE_SIZE");
}

std::uint32_t number_from(const char* variable) {
  const char* text = std::getenv(variable);
  if (text == nullptr) throw_not_a_worker(std::string(variable) + " is not set");
  const std::string_view digits = text;
  std::uint32_t number = 0;
  const auto [end, error] = std::from_chars(digits.begin(), digits.end(), number);
  if (error != std::errc() || end != digits.end()) {
    throw_not_a_worker(std::string(variable) + " is \"" + text + "\", not a number");
  }
  return number;
}

Segment join() {
  if (const char* name = std::getenv("HEDDLE_SEGMENT")) return Segment::open(name);
  if (std::getenv("HEDDLE_SEGMENT_FD") == nullptr) {
    throw_not_a_worker("neither HEDDLE_SEGMENT nor HEDDLE_SEGMENT_FD is set");
  }
  const int fd = static_cast<int>(number_from("HEDDLE_SEGMENT_FD"));
  // Open to us alone, not to the programs that we start.
  if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
    throw_system_error("HEDDLE_SEGMENT_FD " + std::to_string(fd) + " cannot be used", errno);
  }
  return Segment::adopt(fd);
}

}  // namespace

Worker Worker::from_environment() {
  const std::uint32_t rank = number_from("HEDDLE_RANK");
  const std::uint32_t size = number_from("HEDDLE_SIZE");
  if (rank >= size) {
    throw_not_a_worker("HEDDLE_RANK " + std::to_string(rank) + " is none of HEDDLE_SIZE " +
                       std::to_string(size));
  }
  Worker worker(rank, size, join());
  struct sigaction action {};
  action.sa_handler = [](int) { stop_flag.store(true, std::memory_order_relaxed); };
  action.sa_flags = SA_RESTART;  // nobody's read() fails because a stop was asked for
  sigaction(SIGTERM, &action, nullptr);
  return worker;
}

Worker::Worker(std::uint32_t rank, std::uint32_t size, Segment segment)
    : rank_(rank),
      size_(size),
      segment_(std::move(segment)),
      events_(segment_.find<EventRing>(event_ring_name(rank))) {}

bool Worker::stop_requested() const noexcept { return stop_flag.load(std::memory_order_relaxed); }

std::string event_ring_name(std::uint32_t rank) { return "events/" + std::to_string(rank); }

}  // namespace heddle

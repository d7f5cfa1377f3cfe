#pragma once

// What the tests of supervisors have in common.

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "heddle/run/supervisor.hpp"
#include "support/process.hpp"

namespace heddle {

inline void PrintTo(const Supervisor::Happening& happening, std::ostream* out) {
  *out << happening.text;
}

}  // namespace heddle

namespace heddle::test {

using Happening = Supervisor::Happening;
using Kind = Happening::Kind;
using State = Supervisor::State;

/// What a worker reports, with parts that must fit together; `epoch` is its pid.
inline WorkerEvent event_of(std::uint64_t step) {
  return {WorkerEvent::Kind::progress, static_cast<std::uint32_t>(getpid()), step, step * 7,
          static_cast<double>(step) / 2};
}

inline Segment small_segment() { return Segment::anonymous({1 << 20, 16, 16}); }

inline Supervisor::Options shell(const std::string& script, std::uint32_t workers = 1) {
  Supervisor::Options options;
  options.command = {"/bin/sh", "-c", script};
  options.workers = workers;
  return options;
}

/// A worker of worker_roles.cpp: this very program.
inline Supervisor::Options role(const std::string& name, std::uint32_t workers = 1) {
  Supervisor::Options options;
  options.command = {std::filesystem::read_symlink("/proc/self/exe")};
  options.workers = workers;
  options.environment = {{"HEDDLE_TEST_WORKER", name}};
  return options;
}

inline std::size_t count(const std::vector<Happening>& log, Kind kind) {
  return static_cast<std::size_t>(
      std::count_if(log.begin(), log.end(), [kind](const auto& h) { return h.kind == kind; }));
}

inline std::vector<Happening> only(const std::vector<Happening>& log, Kind kind) {
  std::vector<Happening> result;
  for (const Happening& h : log) {
    if (h.kind == kind) result.push_back(h);
  }
  return result;
}

// Polls until `enough`, or nothing more can happen. All that has happened is added to `log`.
inline void poll_until(Supervisor& supervisor, std::vector<Happening>& log,
                       const std::function<bool()>& enough) {
  const Deadline end = Deadline::after(patience);
  while (!enough() && supervisor.state() == State::running) {
    const auto seen = supervisor.poll(Deadline::after(std::chrono::milliseconds(1)));
    log.insert(log.end(), seen.begin(), seen.end());
    if (end.left(monotonic_ns()) <= 0) {
      ADD_FAILURE() << "out of patience after " << testing::PrintToString(log);
      return;
    }
  }
}

inline std::vector<Happening> poll_to_the_end(Supervisor& supervisor) {
  std::vector<Happening> log;
  poll_until(supervisor, log, [] { return false; });
  return log;
}

// The pid of the one worker of a run, once it has reported its first event.
inline pid_t await_first_event(Supervisor& supervisor) {
  std::vector<Happening> log;
  WorkerEvent event{};
  poll_until(supervisor, log, [&] { return supervisor.events(0).pop(event); });
  return static_cast<pid_t>(event.epoch);
}

inline bool has_children() { return waitpid(-1, nullptr, WNOHANG) >= 0 || errno != ECHILD; }

}  // namespace heddle::test

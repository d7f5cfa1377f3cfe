// Workers for the tests of supervisors: this very program, executed with HEDDLE_TEST_WORKER=role.

#include <dirent.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <string>
#include <thread>

#include "heddle/run/worker.hpp"
#include "support/supervision.hpp"

namespace heddle {
namespace {

using test::event_of;
using namespace std::chrono_literals;

constexpr int wrong = 3;  // what a worker exits with that is not as it should be

// 0 when this process has no descriptor but the standard streams and `allowed`, and no input.
int look_at_descriptors(int allowed) {
  DIR* folder = opendir("/proc/self/fd");
  int result = 0;
  while (const dirent* entry = readdir(folder)) {
    if (entry->d_name[0] == '.') continue;
    const int fd = std::atoi(entry->d_name);
    if (fd > 2 && fd != allowed && fd != dirfd(folder)) {
      std::fprintf(stderr, "descriptor %d is open in a worker\n", fd);
      result = wrong;
    }
  }
  closedir(folder);
  char byte;
  return read(0, &byte, 1) == 0 ? result : wrong;
}

std::uint64_t signals_of(const std::string& which) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind(which, 0) == 0) return std::stoull(line.substr(which.size()), nullptr, 16);
  }
  return UINT64_MAX;
}

int look_at_signals() {
  constexpr std::uint64_t ours = ~(std::uint64_t{3} << 31);  // 32 and 33 are the C library's own
  const std::uint64_t terminal = 1ULL << (SIGINT - 1) | 1ULL << (SIGHUP - 1);
  return signals_of("SigBlk:") == 0 && (signals_of("SigIgn:") & ours) == terminal ? 0 : wrong;
}

int work(const std::string& role) {
  if (role == "look_at_signals") return look_at_signals();
  if (role == "look_at_home") return std::getenv("HOME") == std::string("/nowhere") ? 0 : wrong;
  if (role == "look_at_descriptors") {
    const char* segment = std::getenv("HEDDLE_SEGMENT_FD");
    return look_at_descriptors(segment != nullptr ? std::atoi(segment) : -1);
  }

  Worker worker = Worker::from_environment();
  if (role == "finish") return worker.report(event_of(worker.rank())) ? 0 : wrong;
  if (role == "tell_core") {
    cpu_set_t cores;
    sched_getaffinity(0, sizeof cores, &cores);
    std::uint64_t core = 0;
    while (!CPU_ISSET(core, &cores)) ++core;
    return CPU_COUNT(&cores) == 1 && worker.report(event_of(core)) ? 0 : wrong;
  }
  if (role == "five_events_and_death") {
    for (std::uint64_t step = 1; step <= 5; ++step) worker.report(event_of(step));
    raise(SIGKILL);
  }
  if (role == "events_for_ever") {
    for (std::uint64_t step = 1; !worker.stop_requested();) {
      if (worker.report(event_of(step))) ++step;
    }
    return 0;
  }
  if (role == "until_stopped" || role == "stubborn") {
    if (role == "stubborn") signal(SIGTERM, SIG_IGN);
    worker.report(event_of(1));
    while (!worker.stop_requested()) std::this_thread::sleep_for(1ms);
    worker.report(event_of(2));
    return 0;
  }
  return wrong;
}

// Before main, which is GoogleTest's.
[[maybe_unused]] const bool is_no_worker = [] {
  const char* role = std::getenv("HEDDLE_TEST_WORKER");
  if (role == nullptr) return true;
  try {
    _exit(work(role));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "worker %s: %s\n", role, error.what());
    _exit(wrong);
  }
}();

}  // namespace
}  // namespace heddle

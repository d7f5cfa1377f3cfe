#pragma once

// Items shared out among forked workers: the explorer is one machine for each process.

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <functional>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

namespace heddle::model {

/// Calls `work` for 0 ... count - 1, each in one of `jobs` processes, and `done` here with what it
/// gave (up to 100 kB), as they come. Throws when one of the processes ends before its work has.
inline void in_parallel(std::size_t count, std::size_t jobs,
                        const std::function<nlohmann::json(std::size_t)>& work,
                        const std::function<void(const nlohmann::json&)>& done) {
  int ends[2];
  void* shared = mmap(nullptr, sizeof(std::atomic<std::size_t>), PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED || socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) != 0) {
    throw std::runtime_error("no memory, or no socket");
  }
  auto& next = *new (shared) std::atomic<std::size_t>(0);
  std::fflush(nullptr);
  std::vector<pid_t> workers;
  for (std::size_t i = 0; i < jobs; ++i) {
    const pid_t worker = fork();
    if (worker < 0) throw std::runtime_error("cannot fork");
    if (worker != 0) {
      workers.push_back(worker);
      continue;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (std::size_t item; (item = next.fetch_add(1, std::memory_order_relaxed)) < count;) {
      const std::string told = work(item).dump();
      if (send(ends[1], told.data(), told.size(), MSG_NOSIGNAL) < 0) _exit(3);
    }
    _exit(0);
  }
  close(ends[1]);
  std::string message(200'000, '\0');
  std::size_t count_told = 0;
  for (ssize_t bytes; (bytes = recv(ends[0], message.data(), message.size(), 0)) > 0;) {
    done(nlohmann::json::parse(message.substr(0, static_cast<std::size_t>(bytes))));
    ++count_told;
  }
  close(ends[0]);
  munmap(shared, sizeof next);
  bool good = count_told == count;
  for (const pid_t worker : workers) {
    int status = 0;
    waitpid(worker, &status, 0);
    good &= WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }
  if (!good) throw std::runtime_error("a process of the exploration has ended before its work");
}

}  // namespace heddle::model

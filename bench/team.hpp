#pragma once

// A team: the processes that are forked for one sample, measure it and end. They start the work
// at the same moment, and two of them time the distance of their cores just before and after it.
//
// Nothing of a team outlasts its sample: the benchmark waits for every process, kills the rest
// when one fails or is late, and the kernel kills them all when the benchmark itself dies.

#include <sys/mman.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "clock.hpp"
#include "heddle/base/atomic.hpp"

namespace heddle::bench {

/// The benchmark cannot go on; what() is one line.
struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// The processors that this program may run on, in the order in which processes are pinned.
const std::vector<int>& processors();

void* map_shared(std::size_t bytes);

/// One T in memory that a team shares with the benchmark. Its pages are there from the start.
template <class T>
class Shared {
 public:
  Shared() : object_(new (map_shared(sizeof(T))) T{}) {}
  ~Shared() {
    object_->~T();
    munmap(object_, sizeof(T));
  }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;

  T& operator*() const noexcept { return *object_; }
  T* operator->() const noexcept { return object_; }
  void reset() {
    object_->~T();
    new (object_) T{};
  }

 private:
  T* object_;
};

/// Round trip of one cache line between the first two processors, before and after the work;
/// zero for a team of one.
struct Distance {
  double before_ns = 0;
  double after_ns = 0;
};

struct TeamControl;

/// One process of a team, to itself.
class Member {
 public:
  Member(TeamControl& control, int rank, int size, std::chrono::nanoseconds length);

  int rank() const noexcept { return rank_; }
  int size() const noexcept { return size_; }
  std::chrono::nanoseconds length() const noexcept { return length_; }

  /// Call when all is set up. Returns in all members at the same moment.
  void start();
  /// Call when the work is done and before anything is taken down.
  void stop();
  bool stopped() const noexcept { return stopped_; }

  /// Whether the sample is long enough.
  bool over() const noexcept { return ticks_before() >= end_; }

  /// Spins until `ready()` says so; fails the benchmark when that takes too long.
  template <class Ready>
  void spin_until(const char* what, Ready&& ready) {
    for (unsigned spins = 1; !ready(); ++spins) {
      pause();
      if (spins % patience_ == 0) look_around(what);
    }
  }

  /// The same without a pause between two looks, where it is latency that counts.
  template <class Ready>
  void poll_until(const char* what, Ready&& ready) {
    for (unsigned polls = 1; !ready(); ++polls) {
      if (polls % (patience_ * 4) == 0) look_around(what);
    }
  }

  /// Gives the core to others for a moment; fails the benchmark when `what` takes too long.
  void look_around(const char* what);

  /// Ends the benchmark with this message.
  [[noreturn]] void fail(const std::string& message);

 private:
  void ping_pong(double& round_trip_ns);
  void pass(std::uint32_t gate, const char* what);

  TeamControl& control_;
  int rank_;
  int size_;
  std::chrono::nanoseconds length_;
  unsigned patience_;
  std::uint64_t rallies_ = 0;
  std::uint64_t end_ = 0;
  bool stopped_ = false;
};

/// Forks `size` processes that each run `work`, and waits for them. `work` calls start() and
/// stop(). Members are pinned to the processors in turn. Throws Failure when one fails, dies or takes much longer than `length`.
Distance run_team(int size, std::chrono::nanoseconds length,
                  const std::function<void(Member&)>& work);

}  // namespace heddle::bench

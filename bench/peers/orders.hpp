#pragma once

// Ranks of a peer: programs that its own launcher has started once, and that measure a sample whenever
// the benchmark orders one. Orders and results lie in a file without a name, which both map; between
// orders the ranks sleep, and are not in the way of other samples.

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>

#include "barrier_load.hpp"
#include "collective_load.hpp"

namespace heddle::bench {

struct PeerOrders {
  Atomic<std::uint32_t> order;  // counts them; the benchmark writes what is asked for first
  Atomic<std::uint32_t> done;   // ranks; all of them at the end
  Atomic<std::uint32_t> failed;
  std::uint32_t end;  // whether the ranks shall end
  Operation operation;
  std::uint64_t bytes;
  std::uint64_t length;  // ticks
  TickClock clock;
  std::array<char, 400> message;  // of the first that failed
  BarrierLoad barrier;
  CallLoad calls;

  void give(Operation what, std::uint64_t size, std::uint64_t ticks) {
    clock = tick_clock;
    operation = what;
    bytes = size;
    length = ticks;
    done.store(0, relaxed);
    order.fetch_add(1, release("BENCH.order"));
    futex_wake(order, all_sleepers);
  }

  void let_end() {
    end = 1;
    order.fetch_add(1, release("BENCH.order"));
    futex_wake(order, all_sleepers);
  }

  /// By one of so many ranks.
  void finish(int ranks) {
    if (done.fetch_add(1, acq_rel("BENCH.done")) + 1 == static_cast<std::uint32_t>(ranks)) {
      futex_wake(done, all_sleepers);
    }
  }

  void fail(const std::string& why) {
    if (failed.exchange(1, relaxed) == 0) why.copy(message.data(), message.size() - 1);
  }
};

}  // namespace heddle::bench

#pragma once

// What every rank of a peer does, whatever the peer: takes orders (orders.hpp) until the last.

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <exception>
#include <string>

#include "orders.hpp"

namespace heddle::bench {

/// To a processor, as the benchmark's own processes: in turn.
inline void pin(int rank) {
  cpu_set_t set;
  CPU_ZERO(&set);
  const auto place = static_cast<std::size_t>(rank) % processors().size();
  CPU_SET(static_cast<std::size_t>(processors()[place]), &set);
  sched_setaffinity(0, sizeof(set), &set);
}

/// The file that the benchmark has open, and names by its descriptor.
inline PeerOrders& map_orders(const char* path) {
  const int file = open(path, O_RDWR | O_CLOEXEC);
  if (file < 0) throw Failure(std::string("cannot open ") + path + ": " + strerror(errno));
  void* const memory =
      mmap(nullptr, sizeof(PeerOrders), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (memory == MAP_FAILED) throw Failure(std::string("cannot map ") + path);
  return *static_cast<PeerOrders*>(memory);
}

inline void end_with_parent() { prctl(PR_SET_PDEATHSIG, SIGKILL); }

/// `ranks` has what run_collective asks for, and barrier().
template <class Communicator>
void take_orders(PeerOrders& orders, int number, int of, Communicator& ranks) {
  constexpr std::int64_t second = 1'000'000'000;
  Pages<float> memory;
  for (std::uint32_t last = 0;;) {
    const std::uint32_t order = orders.order.load(acquire("BENCH.order"));
    if (order == last) {
      futex_wait(orders.order, last, second);
      continue;
    }
    if (orders.end != 0) return;
    last = order;
    tick_clock = orders.clock;
    const Rank rank{number, of, ticks_before() + orders.length};
    try {
      if (orders.operation == Operation::barrier) {
        orders.barrier.run(rank, [&] { ranks.barrier(); });
      } else {
        const std::size_t count = orders.bytes / sizeof(float);
        if (memory.span().size() < count) memory = Pages<float>(count);
        run_collective(orders.calls, rank, orders.operation, memory.span().first(count), ranks);
      }
    } catch (const std::exception& error) {
      orders.fail(error.what());
    }
    orders.finish(of);
  }
}

}  // namespace heddle::bench

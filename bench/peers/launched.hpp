#pragma once

// The benchmark's side of a peer's ranks (orders.hpp): who the peers are, how they are launched, and the
// contenders that order samples of them.

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <new>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "case.hpp"
#include "heddle/shm/file_descriptor.hpp"
#include "peers/daemon.hpp"
#include "peers/orders.hpp"

namespace heddle::bench {

/// Another library's collectives.
struct Peer {
  const char* impl;
  const char* program;     ///< beside this one
  const char* launcher;    ///< found in PATH; empty: the program is its own
  bool shares_processors;  ///< whether its ranks let others run while they wait
};

inline constexpr Peer open_mpi{"openmpi", "heddle_bench_openmpi", "mpirun.openmpi", true};
inline constexpr Peer mpich{"mpich", "heddle_bench_mpich", "mpirun.mpich", false};
inline constexpr Peer gloo_tcp{"gloo", "heddle_bench_gloo", "", true};
inline constexpr Peer all_peers[] = {open_mpi, mpich, gloo_tcp};

inline std::string program_of(const Peer& peer) {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path() / peer.program;
}

/// Why it cannot be measured; empty: it can.
inline std::string what_is_missing(const Peer& peer, int ranks) {
  if (access(program_of(peer).c_str(), X_OK) != 0) {
    return fmt::format("it was not installed when this program was built ({} is not there)",
                       peer.program);
  }
  if (!peer.shares_processors && static_cast<std::size_t>(ranks) > processors().size()) {
    return "its ranks spin and never yield, so it is measured only where each has a processor";
  }
  const std::string launcher = peer.launcher;
  const char* const path = std::getenv("PATH");
  std::istringstream directories(path == nullptr ? "" : path);
  for (std::string directory; !launcher.empty() && std::getline(directories, directory, ':');) {
    if (access((directory + '/' + launcher).c_str(), X_OK) == 0) return "";
  }
  return launcher.empty() ? "" : fmt::format("there is no {}", launcher);
}

/// With the settings that README.md gives reasons for.
inline std::vector<std::string> command(const Peer& peer, int ranks, const std::string& orders) {
  const std::string count = std::to_string(ranks);
  const std::string program = program_of(peer);
  if (peer.impl == open_mpi.impl) {
    const bool share = static_cast<std::size_t>(ranks) > processors().size();
    return {peer.launcher,
            "--allow-run-as-root",
            "--oversubscribe",
            "--bind-to",
            "none",
            "--np",
            count,
            "--mca",
            "pml",
            "ob1",
            "--mca",
            "btl",
            "self,vader",
            "--mca",
            "mpi_yield_when_idle",
            share ? "1" : "0",
            program,
            orders};
  }
  if (peer.impl == mpich.impl) {
    return {
        peer.launcher, "-launcher",         "fork",  "-bind-to", "none",    "-np",        count,
        "-genv",       "MPIR_CVAR_CH4_SHM", "posix", "-genv",    "UCX_TLS", "posix,self", program,
        orders};
  }
  return {program, orders, count};
}

/// Ranks of a peer that are running.
class PeerRanks {
 public:
  PeerRanks(const Peer& peer, int ranks)
      : ranks_(ranks),
        orders_(new (map(file_.get())) PeerOrders{}),
        daemon_(peer.impl, "ready", [&] {
          std::vector<std::string> words =
              command(peer, ranks, fmt::format("/proc/{}/fd/{}", getppid(), file_.get()));
          std::vector<char*> arguments;
          for (std::string& word : words) arguments.push_back(word.data());
          arguments.push_back(nullptr);
          execvp(arguments[0], arguments.data());
        }) {}
  PeerRanks(const PeerRanks&) = delete;
  PeerRanks& operator=(const PeerRanks&) = delete;
  /// Its launcher reaps the ranks, if it is given the time.
  ~PeerRanks() {
    orders_->let_end();
    daemon_.wait(std::chrono::seconds(5));
    munmap(orders_, sizeof(PeerOrders));
  }

  /// The ones of this peer and so many, for as long as somebody needs them.
  static std::shared_ptr<PeerRanks> running(const Peer& peer, int ranks) {
    static std::map<std::pair<const char*, int>, std::weak_ptr<PeerRanks>> all;
    std::weak_ptr<PeerRanks>& known = all[{peer.impl, ranks}];
    std::shared_ptr<PeerRanks> there = known.lock();
    if (there == nullptr) known = there = std::make_shared<PeerRanks>(peer, ranks);
    return there;
  }

  PeerOrders& orders() const { return *orders_; }

  void measure(Member& member, Operation operation, std::size_t bytes) {
    orders_->give(operation, bytes, ticks_in(member.length()));
    const auto all = static_cast<std::uint32_t>(ranks_);
    for (std::uint32_t done = 0; (done = orders_->done.load(acquire("BENCH.done"))) != all;) {
      futex_wait(orders_->done, done, 10'000'000);
      if (orders_->failed.load(relaxed) != 0) member.fail(orders_->message.data());
      member.look_around("a peer's ranks");
    }
    if (orders_->failed.load(relaxed) != 0) member.fail(orders_->message.data());
  }

 private:
  static void* map(int file) {
    if (ftruncate(file, sizeof(PeerOrders)) != 0) throw Failure("no room for a peer's orders");
    void* const memory = mmap(nullptr, sizeof(PeerOrders), PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_POPULATE, file, 0);
    if (memory == MAP_FAILED) throw Failure("cannot map a peer's orders");
    return memory;
  }

  int ranks_;
  FileDescriptor file_{memfd_create("heddle-bench-orders", MFD_CLOEXEC)};
  PeerOrders* orders_;
  Daemon daemon_;
};

/// Its own two processes only time the cores' distance, and sleep while the ranks are at work.
class PeerContender final : public Contender {
 public:
  PeerContender(const Peer& peer, Operation operation, int ranks, std::size_t bytes = 0)
      : peer_(PeerRanks::running(peer, ranks)),
        operation_(operation),
        ranks_(ranks),
        bytes_(bytes) {}

  int processes() const override { return 2; }
  void prepare() override {
    std::construct_at(&peer_->orders().barrier);
    std::construct_at(&peer_->orders().calls);
  }
  void work(Member& member) override {
    member.start();
    if (member.rank() == 0) peer_->measure(member, operation_, bytes_);
    member.stop();
  }
  Sample result() override {
    return operation_ == Operation::barrier ? peer_->orders().barrier.result()
                                            : peer_->orders().calls.result(ranks_);
  }

 private:
  std::shared_ptr<PeerRanks> peer_;
  Operation operation_;
  int ranks_;
  std::size_t bytes_;
};

/// Adds all of them to a case.
inline void add_peers(Case& here, Operation operation, int ranks, std::size_t bytes = 0) {
  for (const Peer& peer : all_peers) {
    Entry& entry = here.add<PeerContender>(peer.impl, peer, operation, ranks, bytes);
    entry.peer = true;
    entry.missing = what_is_missing(peer, ranks);
  }
}

}  // namespace heddle::bench

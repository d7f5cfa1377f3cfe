// All ranks of Gloo, over its TCP transport on the loopback device: its shared memory is younger than
// Debian's package. A rank has a second thread for its sockets, so none is pinned: the two would take
// turns on one processor.
//
//   gloo_member FILE RANKS

#include <gloo/allgather.h>
#include <gloo/allreduce.h>
#include <gloo/barrier.h>
#include <gloo/broadcast.h>
#include <gloo/math.h>
#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/file_store.h>
#include <gloo/transport/tcp/device.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "member.hpp"

namespace {

using namespace heddle::bench;

class Gloo {
 public:
  Gloo(int rank, int size, const std::string& directory)
      : context_(std::make_shared<gloo::rendezvous::Context>(rank, size)) {
    gloo::transport::tcp::attr attributes;
    attributes.iface = "lo";
    auto device = gloo::transport::tcp::CreateDevice(attributes);
    gloo::rendezvous::FileStore store(directory);
    context_->connectFullMesh(store, device);
  }

  void barrier() {
    gloo::BarrierOptions options(context_);
    gloo::barrier(options);
  }
  void allreduce(std::span<float> data) {
    gloo::AllreduceOptions options(context_);
    options.setOutput(data.data(), data.size());
    using Sum = void (*)(void*, const void*, const void*, std::size_t);
    options.setReduceFunction(static_cast<Sum>(&gloo::sum<float>));
    gloo::allreduce(options);
  }
  void broadcast(std::span<float> data) {
    gloo::BroadcastOptions options(context_);
    options.setOutput(data.data(), data.size());
    options.setRoot(0);
    gloo::broadcast(options);
  }
  void all_gather(std::span<float> data) {
    gloo::AllgatherOptions options(context_);
    options.setOutput(data.data(), data.size());
    gloo::allgather(options);
  }

 private:
  std::shared_ptr<gloo::rendezvous::Context> context_;
};

[[noreturn]] void be_rank(const char* file, int rank, int size, const std::string& directory) {
  end_with_parent();
  try {
    PeerOrders& orders = map_orders(file);
    Gloo gloo(rank, size, directory);
    gloo.barrier();
    if (rank == 0) {
      std::filesystem::remove_all(directory);
      std::puts("ready");
      std::fflush(stdout);
    }
    take_orders(orders, rank, size, gloo);
    _exit(EXIT_SUCCESS);
  } catch (const std::exception& error) {
    std::puts(error.what());
    std::fflush(stdout);
    _exit(EXIT_FAILURE);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return EXIT_FAILURE;
  const int size = std::atoi(argv[2]);
  std::string directory = std::filesystem::temp_directory_path() / "heddle-bench-XXXXXX";
  if (mkdtemp(directory.data()) == nullptr) return EXIT_FAILURE;
  for (int rank = 0; rank < size; ++rank) {
    if (fork() == 0) be_rank(argv[1], rank, size, directory);
  }
  int status = 0;
  while (wait(&status) > 0) {
    if (status == 0) continue;
    std::filesystem::remove_all(directory);
    return EXIT_FAILURE;  // the others end with this program
  }
  return EXIT_SUCCESS;
}

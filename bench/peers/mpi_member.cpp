// One rank of an MPI: compiled once with each MPI's own compiler, started by its own mpirun.
//
//   mpi_member FILE

#include <mpi.h>

#include <climits>
#include <cstdio>
#include <cstdlib>
#include <span>

#include "member.hpp"

namespace {

using namespace heddle::bench;

int count_of(std::span<float> data) {
  if (data.size() > INT_MAX) throw Failure("MPI counts elements in an int");
  return static_cast<int>(data.size());
}

// MPI's errors end the program, and with it all ranks: that is its default.
class Mpi {
 public:
  int rank() const {
    int rank = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    return rank;
  }
  int size() const {
    int size = 0;
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    return size;
  }
  void barrier() { MPI_Barrier(MPI_COMM_WORLD); }
  void allreduce(std::span<float> data) {
    MPI_Allreduce(MPI_IN_PLACE, data.data(), count_of(data), MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
  }
  void broadcast(std::span<float> data) {
    MPI_Bcast(data.data(), count_of(data), MPI_FLOAT, 0, MPI_COMM_WORLD);
  }
  void all_gather(std::span<float> data) {
    MPI_Allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, data.data(), count_of(data) / size(),
                  MPI_FLOAT, MPI_COMM_WORLD);
  }
};

}  // namespace

int main(int argc, char** argv) {
  end_with_parent();
  processors();  // those that this program may run on, before it pins itself
  MPI_Init(&argc, &argv);
  Mpi mpi;
  pin(mpi.rank());
  try {
    if (argc != 2) throw Failure("mpi_member takes the name of a file");
    PeerOrders& orders = map_orders(argv[1]);
    mpi.barrier();
    if (mpi.rank() == 0) {
      std::puts("ready");
      std::fflush(stdout);
    }
    take_orders(orders, mpi.rank(), mpi.size(), mpi);
    MPI_Finalize();
  } catch (const std::exception& error) {
    std::puts(error.what());
    return EXIT_FAILURE;
  }
}

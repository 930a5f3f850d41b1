// tests/launch/mpi_program.cpp
//
// A program that uses MPI itself; what mpi_ranks_test.cpp runs as ranks:
// `mpi_program multiple` or `mpi_program single`, the threads that MPI is to
// bear.
#include "colonnade/core/error.h"
#include "colonnade/launch/launch.h"
#include "tests/comm/world_group.h"

#include <ATen/ATen.h>

#include <mpi.h>

#include <cstdio>
#include <string>

int main(int argc, char** argv) {
  const bool single = argc > 1 && std::string(argv[1]) == "single";
  int granted = 0;
  MPI_Init_thread(&argc, &argv,
                  single ? MPI_THREAD_SINGLE : MPI_THREAD_MULTIPLE, &granted);
  colonnade::LaunchOptions options;
  options.backend = "mpi";
  try {
    colonnade::launch(
        [](int rank) {
          at::Tensor x = at::full({5000}, rank + 1);
          colonnade::make_world_group()->all_reduce(x);
          std::printf("sum %d\n", x[4999].item<int>());
        },
        options);
  } catch (const colonnade::Error& error) {
    std::printf("%s\n", error.what());
  }
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Allreduce(MPI_IN_PLACE, &rank, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
  std::printf("its own MPI works: %d\n", rank);
  MPI_Finalize();
}

// benchmarks/process_pair.cpp
#include "benchmarks/process_pair.h"

#include "colonnade/comm/backend.h"
#include "colonnade/comm/process_rendezvous.h"
#include "colonnade/core/cores.h"
#include "colonnade/core/error.h"
#include "colonnade/launch/launch.h"

#include <mpi.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <filesystem>
#include <system_error>

namespace colonnade::bench {
namespace {

int process() {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  return rank;
}

/// Lets the other process's core alone meanwhile.
void wait_asleep() {
  MPI_Request request;
  MPI_Ibarrier(MPI_COMM_WORLD, &request);
  for (int done = 0; done == 0;) {
    MPI_Test(&request, &done, MPI_STATUS_IGNORE);
    usleep(500);
  }
}

}  // namespace

double slowest_process(double value) {
  MPI_Allreduce(MPI_IN_PLACE, &value, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
  return value;
}

SharedFolder::SharedFolder() {
  std::array<char, 64> folder{"/tmp/colonnade-bench-XXXXXX"};
  if (process() == 0) {
    check<Error>(mkdtemp(folder.data()) != nullptr,
                 "processes: cannot make a folder in /tmp");
  }
  MPI_Bcast(folder.data(), folder.size(), MPI_CHAR, 0, MPI_COMM_WORLD);
  path_ = folder.data();
}

SharedFolder::~SharedFolder() {
  MPI_Barrier(MPI_COMM_WORLD);
  if (process() == 0) {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
}

WorldPtr world_of(const char* backend, const std::string& folder) {
  return find_backend(backend).make_process_world(
      {.rank = process(),
       .size = kRanks,
       .host = "here",
       .rendezvous = file_rendezvous(folder + '/' + backend, kRanks),
       .timeout = std::chrono::seconds(60),
       .sharing = usable_cores() >= kRanks ? kRanks : 1});
}

void on_threads_of_first_process(const std::function<void(int rank)>& body) {
  if (process() == 0) {
    cpu_set_t before;
    sched_getaffinity(0, sizeof(before), &before);
    cpu_set_t all;
    CPU_ZERO(&all);
    for (int core = 0; core < static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
         ++core) {
      CPU_SET(core, &all);
    }
    sched_setaffinity(0, sizeof(all), &all);
    run_ranks(kRanks, body);
    sched_setaffinity(0, sizeof(before), &before);
  }
  wait_asleep();
}

}  // namespace colonnade::bench

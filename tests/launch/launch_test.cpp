// tests/launch/launch_test.cpp
#include "colonnade/launch/launch.h"

#include "colonnade/core/error.h"
#include "tests/testing/error_of.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <atomic>

namespace colonnade {
namespace {

/// An environment variable, set for as long as this lives.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) {
    setenv(name, value, /*overwrite=*/1);
  }
  ~Variable() { unsetenv(name_); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  const char* name_;
};

TEST(Launch, MakesThreadRanksWithoutALauncher) {
  for (const int threads : {1, 3}) {
    std::atomic<int> runs = 0;
    LaunchOptions options;
    options.threads = threads;
    launch([&] { ++runs; }, options);
    EXPECT_EQ(runs, threads);
  }
}

TEST(Launch, RefusesToMakeProcesses) {
  LaunchOptions options;
  options.backend = "gloo";
  std::atomic<int> runs = 0;
  launch([&] { ++runs; }, options);  // alone
  EXPECT_EQ(runs, 1);
  options.threads = 2;
  EXPECT_EQ(error_of<InvalidArgument>([&] { launch([] {}, options); }),
            "launch: the ranks of gloo are processes, and no launcher started "
            "more than this one; start 2 of them with mpirun, torchrun or "
            "srun");
}

TEST(Launch, RefusesLaunchersThatContradictEachOther) {
  const Variable size("WORLD_SIZE", "1");
  const Variable rank("RANK", "0");
  const Variable mpi_size("OMPI_COMM_WORLD_SIZE", "2");
  const Variable mpi_rank("OMPI_COMM_WORLD_RANK", "1");
  EXPECT_EQ(error_of<InvalidArgument>([] { launch([] {}); }),
            "launch: torchrun says rank 0 of 1 (RANK=0, WORLD_SIZE=1), but "
            "Open MPI's mpirun says rank 1 of 2 (OMPI_COMM_WORLD_RANK=1, "
            "OMPI_COMM_WORLD_SIZE=2); unset the variables of one of them");
}

TEST(Launch, TakesALauncherOfOneProcess) {
  const Variable variable("OMPI_COMM_WORLD_SIZE", "1");
  std::atomic<int> runs = 0;
  launch([&] { ++runs; });
  EXPECT_EQ(runs, 1);
}

}  // namespace
}  // namespace colonnade

// colonnade/launch/launch.cpp
#include "colonnade/launch/launch.h"

#include "colonnade/core/error.h"

#include <cstdlib>
#include <string>

namespace colonnade::detail {
namespace {

/// A launcher, by the variable in which it says how many ranks it started.
struct Launcher {
  const char* name;
  const char* variable;
};

constexpr Launcher kLaunchers[] = {
    {"torchrun", "WORLD_SIZE"},
    {"mpirun", "OMPI_COMM_WORLD_SIZE"},
    {"mpirun", "PMI_SIZE"},
    {"Slurm's srun", "SLURM_STEP_NUM_TASKS"},
};

}  // namespace

void launch_ranks(const std::function<void(int)>& body,
                  const LaunchOptions& options) {
  for (const Launcher& launcher : kLaunchers) {
    const char* const value = std::getenv(launcher.variable);
    const int size = value == nullptr ? 1 : std::atoi(value);
    check_arg(size <= 1, "launch: ", launcher.name, " started ", size,
              " processes (", launcher.variable, "=", size,
              "), and this version has no ranks that are processes; start one "
              "process and set LaunchOptions::threads to ",
              size);
  }
  run_thread_ranks(options.threads, body, options);
}

}  // namespace colonnade::detail

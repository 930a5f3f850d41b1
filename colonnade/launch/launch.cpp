// colonnade/launch/launch.cpp
#include "colonnade/launch/launch.h"

#include "colonnade/comm/backend.h"
#include "colonnade/core/error.h"
#include "colonnade/launch/detail/launcher.h"
#include "colonnade/launch/detail/process_rank.h"

#include <cstdlib>
#include <optional>

namespace colonnade::detail {

void launch_ranks(const std::function<void(int)>& body,
                  const LaunchOptions& options) {
  const Environment environment = [](const char* name) {
    return std::getenv(name);
  };
  const std::optional<LauncherPlace> place = find_launcher(environment);
  if (place) {
    run_process_rank(*place, environment, body, options);
    return;
  }
  LaunchOptions local = options;
  if (!options.backend.empty() &&
      find_backend(options.backend).make_local_worlds == nullptr) {
    check_arg(options.threads <= 1, "launch: the ranks of ", options.backend,
              " are processes, and no launcher started more than this one; "
              "start ",
              options.threads, " of them with mpirun, torchrun or srun");
    local.backend.clear();
  }
  run_thread_ranks(options.threads, body, local);
}

}  // namespace colonnade::detail

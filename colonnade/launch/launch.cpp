// colonnade/launch/launch.cpp
#include "colonnade/launch/launch.h"

#include "colonnade/comm/backend.h"
#include "colonnade/core/error.h"
#include "colonnade/launch/detail/launcher.h"
#include "colonnade/launch/detail/process_rank.h"

#include <cstdlib>
#include <optional>
#include <string>

namespace colonnade {
namespace {

const char* variable(const char* name) {
  return std::getenv(name);
}

}  // namespace

std::string launcher_name() {
  const auto place = detail::find_launcher(variable);
  return place ? place->launcher : std::string();
}

void detail::launch_ranks(const std::function<void(int)>& body,
                          const LaunchOptions& options) {
  const std::optional<LauncherPlace> place = find_launcher(variable);
  if (place) {
    run_process_rank(*place, variable, body, options);
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

}  // namespace colonnade

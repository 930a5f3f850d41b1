// colonnade/launch/launch.cpp
#include "colonnade/launch/launch.h"

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
  } else {
    run_thread_ranks(options.threads, body, options);
  }
}

}  // namespace colonnade::detail

// colonnade/launch/detail/process_rank.h
#pragma once

#include "colonnade/launch/detail/launcher.h"
#include "colonnade/launch/launch.h"

#include <functional>

namespace colonnade::detail {

/// Runs `body` in this process as the rank at `place`: in the calling thread,
/// which is on its share of the host's cores meanwhile.
void run_process_rank(const LauncherPlace& place,
                      const Environment& environment,
                      const std::function<void(int)>& body,
                      const LaunchOptions& options);

}  // namespace colonnade::detail

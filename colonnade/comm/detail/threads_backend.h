// colonnade/comm/detail/threads_backend.h
#pragma once

#include "colonnade/comm/world.h"

#include <chrono>
#include <vector>

namespace colonnade::detail {

/// The worlds of `size` ranks that are threads of this process.
std::vector<WorldPtr> make_thread_worlds(int size,
                                         std::chrono::milliseconds timeout);

}  // namespace colonnade::detail

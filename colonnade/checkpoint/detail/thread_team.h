// colonnade/checkpoint/detail/thread_team.h
#pragma once

#include "colonnade/core/api.h"

#include <c10/util/FunctionRef.h>

#include <cstdint>

namespace colonnade::detail {

/// Calls body(i, thread) for every i in [0, count) on `threads` threads, of
/// which the caller is thread 0. They take the next i as they are done with
/// one, and call nothing that needs a rank.
///
/// Errors  the first that `body` throws; then not every i is called
COLONNADE_API void share_work(int64_t count, int threads,
                              c10::function_ref<void(int64_t, int)> body);

}  // namespace colonnade::detail

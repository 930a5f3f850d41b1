// colonnade/launch/detail/thread_rank.h
#pragma once

#include "colonnade/comm/rank_context.h"
#include "colonnade/comm/world.h"
#include "colonnade/launch/detail/first_error.h"
#include "colonnade/launch/launch.h"

#include <c10/util/FunctionRef.h>

#include <string_view>
#include <vector>

namespace colonnade::detail {

/// Whether the calling thread is a rank's at this moment.
bool inside_rank();

/// The worlds of `n` ranks that are threads, in rank order.
///
/// subject  begins the text of an error
/// Errors   InvalidArgument where n < 1, or where the backend that `options`
///          names has no such ranks here
std::vector<WorldPtr> make_local_worlds(std::string_view subject, int n,
                                        const LaunchOptions& options);

/// Runs `body` in the calling thread as the rank of `context`: its context, its
/// generators. What it throws goes to `first_error` and ends the rank's world.
void run_rank(const RankContextPtr& context, c10::function_ref<void()> body,
              FirstError& first_error) noexcept;

}  // namespace colonnade::detail

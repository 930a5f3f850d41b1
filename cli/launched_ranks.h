// cli/launched_ranks.h
#pragma once

#include "colonnade/launch/launch.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace colonnade::cli {

/// For commands whose model makes ranks of its own. Calls `body` on each rank
/// of the launcher that started this process, with parallel state in place, or,
/// without one, once and outside of a rank.
///
/// tp       the tensor-parallel size of launched ranks; empty: all of them
/// backend  a name of the backend table; empty: the one that fits
/// body     takes whether this process speaks for all
/// Errors   InvalidArgument where ranks of the backend are processes, and no
///          launcher has started more than this one
void on_launched_ranks(std::optional<int64_t> tp, const std::string& backend,
                       const std::function<void(bool speaks)>& body);

/// For the thread ranks that such a model makes: with the backend, unless its
/// ranks are processes, which `on_launched_ranks` has seen to.
LaunchOptions own_ranks(const std::string& backend);

/// Whether `mine` is true on any launched rank of the tensor-parallel group:
/// collective. Outside of a rank, `mine`.
bool any_launched_rank(bool mine);

}  // namespace colonnade::cli

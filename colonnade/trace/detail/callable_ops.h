// colonnade/trace/detail/callable_ops.h
#pragma once

#include "colonnade/core/api.h"

#include <span>
#include <string>
#include <vector>

namespace colonnade::trace::detail {

/// The namespaces whose ops a graph from a file may call by default.
COLONNADE_API const std::vector<std::string>& default_namespaces();

/// Why a graph from a file may not call an op, with the way out; empty where it
/// may.
///
/// namespaces  each "aten", or one op by name, "aten::lu_solve": an op that is
///             named is allowed though its namespace is not, or though it is
///             one that trusts its arguments
COLONNADE_API std::string why_not_callable(
    const std::string& op, std::span<const std::string> namespaces);

}  // namespace colonnade::trace::detail

// colonnade/trace/detail/check_graph.h
#pragma once

#include "colonnade/core/api.h"
#include "colonnade/trace/graph.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace colonnade::trace::detail {

// What a graph from a file may have at most.
inline constexpr int64_t kMaxDegree = 4096;
inline constexpr size_t kMaxItems = size_t{1} << 20;  ///< Of each list.
inline constexpr size_t kMaxCalls = size_t{1} << 17;
inline constexpr size_t kMaxNesting = 32;  ///< Of a Structure.
inline constexpr size_t kMaxDims = 64;
inline constexpr size_t kMaxTerms = 32;   ///< Of an expression.
inline constexpr size_t kMaxFactors = 4;  ///< Variables of a term.
inline constexpr size_t kMaxVariables = 256;
inline constexpr size_t kMaxNameBytes = 4096;
inline constexpr int64_t kMaxDivisor = int64_t{1} << 31;

/// Checks all that Program, Frame and to_string rely on, so that a graph from
/// anywhere reads no memory but its own, ends, and calls only ops that it may:
/// numbers of values, expressions and inputs are there; a value is used after
/// it is made, and made again only by a call that is given it; leaves, weights
/// and names fit; every argument and result is of the kind that the op's schema
/// has.
///
/// subject     of errors: the file's path
/// namespaces  whose ops may be called; see why_not_callable
/// Errors      CheckpointError names the call, the op and the argument
COLONNADE_API void check_graph(const Graph& graph, const std::string& subject,
                               std::span<const std::string> namespaces);

}  // namespace colonnade::trace::detail

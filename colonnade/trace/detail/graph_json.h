// colonnade/trace/detail/graph_json.h
#pragma once

#include "colonnade/core/api.h"
#include "colonnade/trace/graph.h"

#include <cstddef>
#include <string>

namespace colonnade::trace::detail {

// A longer text, one nested deeper, or one with a longer string is refused.
inline constexpr size_t kMaxJsonBytes = size_t{32} << 20;
inline constexpr int kMaxJsonDepth = 128;
inline constexpr size_t kMaxStringBytes = size_t{1} << 16;

/// The text of graph.json: all of the graph but its prologue, and the schema of
/// every op. Equal graphs have equal texts, on every rank.
///
/// Errors  InvalidArgument where this process lacks an op, or a string is no
///         UTF-8
COLONNADE_API std::string to_json(const Graph& graph);

/// The other way round. Whether the graph can be run is for check_graph to say.
///
/// subject  the file's path, for errors
/// Errors   CheckpointError where the text is no graph of this version, or an
///          op is not what it was: all that differ, with both schemas
COLONNADE_API Graph graph_from_json(const std::string& text,
                                    const std::string& subject);

}  // namespace colonnade::trace::detail

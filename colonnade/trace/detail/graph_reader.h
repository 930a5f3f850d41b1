// colonnade/trace/detail/graph_reader.h
#pragma once

#include "colonnade/trace/graph.h"

#include <nlohmann/json.hpp>

#include <string>

namespace colonnade::trace::detail {

/// The graph that a JSON object describes. Recursive, so `object` is of limited
/// depth.
///
/// subject  the file's path, for errors
/// Errors   CheckpointError, as graph_from_json
Graph read_graph(const nlohmann::json& object, const std::string& subject);

}  // namespace colonnade::trace::detail

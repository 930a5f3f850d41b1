// cli/graph_summary.h
#pragma once

#include "colonnade/trace/graph.h"

#include <string>
#include <vector>

namespace colonnade::cli {

/// Calls, inputs, outputs, degree, weights and states, in a line each.
///
/// graph  as traced
/// runs   as it runs
std::string summary(const trace::Graph& graph, const trace::Graph& runs);

/// A table of ops, by calls; by time where `seconds` has the time of each call.
/// Without times it is empty.
std::string op_table(const trace::Graph& graph,
                     const std::vector<double>& seconds);

}  // namespace colonnade::cli

// cli/graph_summary.h
#pragma once

#include "colonnade/trace/graph.h"

#include <cstdint>
#include <string>
#include <vector>

namespace colonnade::cli {

/// What a call is, for people who look at a graph.
enum class CallKind {
  kCollective,  ///< Brings the ranks together.
  kState,       ///< Reads or writes what stays between passes.
  kProduct,     ///< Of matrices, convolutions too.
  kView,        ///< Gives another view of its input, or a copy if it must.
  kOther,
};

CallKind kind_of(const trace::Graph& graph, const trace::Node& node);

/// The ids of the values that a call is given, in order.
std::vector<int> values_given(const trace::Node& node);
/// The ids of the values that it gives.
std::vector<int> values_made(const trace::Node& node);

/// Of the results that are no views, in the example.
int64_t bytes_made(const trace::Graph& graph, const trace::Node& node);

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

// cli/graph_layout.h
#pragma once

#include "colonnade/trace/graph.h"

#include <cstddef>
#include <string>
#include <vector>

namespace colonnade::cli {

/// Calls that follow each other, and of which the next ones may be a repetition
/// with other weights.
struct GraphSection {
  size_t first = 0;  ///< In Graph::nodes.
  size_t count = 0;  ///< Calls of one repetition.
  size_t repeats = 1;
  std::string name = {};  ///< "model.layers.0"; empty: of no numbered layer.
  std::string last_name = {};  ///< Of the last repetition.
};

/// All calls, cut where the weights of a numbered layer ("model.layers.0.…")
/// begin and end, at the place where fewest values cross. Layers of the same
/// calls are one section.
std::vector<GraphSection> sections_of(const trace::Graph& graph);

/// A row of the picture: an input, a call, or an output.
struct GraphRow {
  enum class What { kInput, kCall, kOutput };

  What what = What::kCall;
  size_t index = 0;                  ///< In Graph::inputs, nodes or outputs.
  size_t section = 0;                ///< Of a call.
  int lane = 0;                      ///< Its column.
  std::vector<size_t> sources = {};  ///< Rows whose results it takes.
};

struct GraphLayout {
  std::vector<GraphSection> sections;
  std::vector<GraphRow> rows;
  int lanes = 0;
};

/// Rows in the order of the calls, one repetition of each section. A row has
/// its lane to itself until the last row that takes its results.
GraphLayout layout_of(const trace::Graph& graph);

}  // namespace colonnade::cli

// cli/graph_picture.h
#pragma once

#include "colonnade/trace/graph.h"

#include <string>
#include <vector>

namespace colonnade::cli {

/// A graph as an SVG picture, readable on light and dark pages: a row a call,
/// from inputs to outputs, joined by what they hand on. Collectives stand out
/// in colour. Layers that are alike are drawn once.
///
/// seconds  of each call, for bars; or empty
std::string draw_as_svg(const trace::Graph& graph, const std::string& title,
                        const std::vector<double>& seconds = {});

}  // namespace colonnade::cli

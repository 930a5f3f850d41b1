// colonnade/trace/detail/passes/drop_dead.cpp
#include "colonnade/trace/detail/passes/calls.h"
#include "colonnade/trace/detail/passes/passes.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace colonnade::trace::detail {
namespace {

/// Keeps the nodes that somebody needs, and notes what they need themselves. A
/// value stays needed where it is made: it may be made in several steps.
void keep_needed(std::vector<Node>& nodes, std::vector<bool>& needed) {
  std::vector<Node> kept;
  for (size_t i = nodes.size(); i-- > 0;) {
    Node& node = nodes[i];
    bool keep = !is_pure(node);
    for_each_result_value(node.results, [&](int id) {
      keep = keep || needed[static_cast<size_t>(id)];
    });
    if (keep) {
      for_each_argument_value(
          node, [&](int id) { needed[static_cast<size_t>(id)] = true; });
      kept.push_back(std::move(node));
    }
  }
  std::ranges::reverse(kept);
  nodes = std::move(kept);
}

}  // namespace

Graph drop_dead(Graph graph, const PassFacts& /*facts*/) {
  std::vector<bool> needed(graph.values.size(), false);
  for (const Argument& output : graph.outputs) {
    for_each_value(output,
                   [&](int id) { needed[static_cast<size_t>(id)] = true; });
  }
  keep_needed(graph.nodes, needed);
  keep_needed(graph.prologue, needed);
  return graph;
}

}  // namespace colonnade::trace::detail

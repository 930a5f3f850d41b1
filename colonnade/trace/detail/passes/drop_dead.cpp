// colonnade/trace/detail/passes/drop_dead.cpp
#include "colonnade/trace/detail/passes/calls.h"
#include "colonnade/trace/detail/passes/passes.h"

#include <algorithm>
#include <utility>
#include <vector>

namespace colonnade::trace::detail {
namespace {

/// Dropout that does not drop gives back its argument, the same tensor.
bool is_nothing(const Node& node) {
  const std::string_view name = base_name(node);
  return (name == "aten::dropout" || name == "aten::feature_dropout" ||
          name == "aten::alpha_dropout" ||
          name == "aten::feature_alpha_dropout") &&
         node.arguments.size() == 3 && node.arguments[2] == Argument{false} &&
         node.arguments[0] == Argument{Value{only_result(node)}};
}

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
    if (keep && !is_nothing(node)) {
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

// colonnade/trace/detail/passes/skip_identities.cpp
#include "colonnade/trace/detail/passes/calls.h"
#include "colonnade/trace/detail/passes/passes.h"

#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

namespace colonnade::trace::detail {
namespace {

/// Whether a call gives back its very argument at every size of the inputs:
/// dropout that does not drop, a conversion to what the tensor is.
bool gives_its_argument(const Node& node) {
  if (node.arguments.empty() ||
      node.arguments[0] != Argument{Value{only_result(node)}}) {
    return false;
  }
  const std::string_view name = base_name(node);
  return (name == "aten::to" && node.arguments.back() == Argument{}) ||
         (name.ends_with("dropout") &&
          node.arguments.back() == Argument{false});
}

/// Whether a call gives its argument as another tensor, which only autograd
/// tells apart.
bool gives_an_alias(const Node& node) {
  return (node.op == "aten::alias" || node.op == "aten::detach" ||
          node.op == "colonnade::copy_to_tensor_model_parallel_region") &&
         node.arguments[0].is<Value>() && only_result(node) >= 0;
}

}  // namespace

Graph skip_identities(Graph graph, const PassFacts& /*facts*/) {
  std::vector<Node> nodes;
  for (Node& node : graph.nodes) {
    if (gives_its_argument(node)) {
      continue;
    }
    if (!gives_an_alias(node) || is_output(graph, only_result(node))) {
      nodes.push_back(std::move(node));
      continue;
    }
    const int from = only_result(node);
    const int to = node.arguments[0].as<Value>().id;
    for (Node& later : graph.nodes) {
      rename(later, from, to);
    }
  }
  graph.nodes = std::move(nodes);
  return graph;
}

}  // namespace colonnade::trace::detail

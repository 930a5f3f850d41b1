// colonnade/trace/detail/passes/expand_layers.cpp
#include "colonnade/trace/detail/passes/calls.h"
#include "colonnade/trace/detail/passes/passes.h"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace colonnade::trace::detail {
namespace {

constexpr const char* kLinear = "colonnade::linear";

/// Puts the calls that a layer makes at the degree of `facts` in its place.
class Expander {
 public:
  Expander(Graph graph, const PassFacts& facts)
      : graph_(std::move(graph)), facts_(facts) {}

  Graph run() {
    const std::vector<Node> nodes = std::exchange(graph_.nodes, {});
    for (const Node& node : nodes) {
      const bool expanded =
          (node.op == "colonnade::column_parallel_linear" && column(node)) ||
          (node.op == "colonnade::row_parallel_linear" && row(node));
      if (!expanded) {
        graph_.nodes.push_back(node);
      }
    }
    return std::move(graph_);
  }

 private:
  /// A dim of the weight on this rank; none where it is no weight of the model.
  std::optional<int64_t> weight_size(const Argument& argument,
                                     int64_t dim) const {
    if (!argument.is<Value>()) {
      return std::nullopt;
    }
    const auto found = std::ranges::find(
        graph_.weights, argument.as<Value>().id, &Weight::value);
    if (found == graph_.weights.end()) {
      return std::nullopt;
    }
    return facts_.weights[static_cast<size_t>(found - graph_.weights.begin())]
        .size(dim);
  }

  /// Appends a call; its result is a new value, or `into`.
  Argument call(std::string op, std::vector<Argument> arguments, int like,
                int into = -1) {
    const int value = into >= 0 ? into : add_value(graph_, like);
    graph_.nodes.push_back(
        {std::move(op), std::move(arguments), {Value{value}}});
    return {Value{value}};
  }

  /// (x, weight, bias, gather_output, sequence_parallel_enabled,
  /// sequence_dimension, output_size, segments, group)
  bool column(const Node& node) {
    const auto& in = node.arguments;
    const std::optional<int64_t> rows = weight_size(in[1], 0);
    const int64_t parts = facts_.degree;
    const bool gathers = in[3].as<bool>();
    const bool fused = in[7].as<ArgumentList>().size() > 1;
    if (!rows || !in[6].is<int64_t>() || (gathers && parts > 1 && fused)) {
      return false;
    }
    const Argument& group = in[8];
    const int64_t size = in[6].as<int64_t>();
    const bool padded = size >= 0 && size != parts * *rows;
    const bool gathers_here = gathers && parts > 1;
    const int result = only_result(node);
    const int like = in[0].as<Value>().id;
    Argument x = in[0];
    if (in[4].as<bool>() && parts > 1) {
      x = call("colonnade::gather_from_sequence_parallel_region",
               {x, in[5], {true}, group}, like);
    }
    const bool more = gathers_here || padded;
    Argument y = call(kLinear, {x, in[1], in[2]}, result, more ? -1 : result);
    if (gathers_here) {
      y = call("colonnade::gather_from_tensor_model_parallel_region",
               {y, {int64_t{-1}}, group}, result, padded ? -1 : result);
    }
    if (padded && gathers) {
      call("aten::narrow", {y, {int64_t{-1}}, {int64_t{0}}, {size}}, result,
           result);
    } else if (padded) {
      call("colonnade::zero_padding", {y, {int64_t{-1}}, {size}, group}, result,
           result);
    }
    return true;
  }

  /// (x, weight, bias, input_is_parallel, sequence_parallel_enabled,
  /// sequence_dimension, reduce_output, reduce_dtype, input_size, group)
  bool row(const Node& node) {
    const auto& in = node.arguments;
    const std::optional<int64_t> columns = weight_size(in[1], 1);
    const int64_t parts = facts_.degree;
    const bool plain = in[6].as<bool>() && in[7].is<std::monostate>();
    if (!columns || !in[8].is<int64_t>() || !plain ||
        (in[8].as<int64_t>() >= 0 && in[8].as<int64_t>() != parts * *columns)) {
      return false;
    }
    const Argument& group = in[9];
    const int result = only_result(node);
    if (parts == 1) {
      call(kLinear, {in[0], in[1], in[2]}, result, result);
      return true;
    }
    Argument x = in[0];
    if (!in[3].as<bool>()) {
      x = call("colonnade::scatter_to_tensor_model_parallel_region",
               {x, {int64_t{-1}}, group}, in[0].as<Value>().id);
    }
    const bool sequence = in[4].as<bool>();
    Argument y = call(kLinear, {x, in[1], {}}, result, sequence ? -1 : result);
    if (sequence) {
      call("colonnade::reduce_scatter_to_sequence_parallel_region",
           {y, in[5], group}, result, result);
    } else {
      call("colonnade::reduce_from_tensor_model_parallel_region_", {y, group},
           result, result);
    }
    if (!in[2].is<std::monostate>()) {
      call("aten::add_.Tensor", {{Value{result}}, in[2], {int64_t{1}}}, result,
           result);
    }
    return true;
  }

  Graph graph_;
  const PassFacts& facts_;
};

}  // namespace

Graph expand_layers(Graph graph, const PassFacts& facts) {
  return Expander(std::move(graph), facts).run();
}

}  // namespace colonnade::trace::detail

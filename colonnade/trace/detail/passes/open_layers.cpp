// colonnade/trace/detail/passes/open_layers.cpp
#include "colonnade/trace/detail/passes/calls.h"
#include "colonnade/trace/detail/passes/passes.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace colonnade::trace::detail {
namespace {

using at::Tensor;

constexpr const char* kLinear = "colonnade::linear";
const Argument kLastDim = {int64_t{-1}};

/// Opens what parallel_layers/detail/layer_ops.h has closed: at one degree and
/// with the weights at hand it is known which ops a layer makes.
class Opener {
 public:
  Opener(Graph graph, const PassFacts& facts)
      : graph_(std::move(graph)), parts_(facts.degree) {
    for (size_t i = 0; i < graph_.weights.size(); ++i) {
      weights_[graph_.weights[i].value] = facts.weights.at(i);
    }
  }

  Graph run() {
    std::vector<Node> closed = std::exchange(graph_.nodes, {});
    for (Node& node : closed) {
      const bool opened =
          (node.op == "colonnade::column_parallel_linear" &&
           open_column(node)) ||
          (node.op == "colonnade::row_parallel_linear" && open_row(node));
      if (!opened) {
        graph_.nodes.push_back(std::move(node));
      }
    }
    return std::move(graph_);
  }

 private:
  bool open_column(const Node& node);
  bool open_row(const Node& node);
  const Tensor* weight_of(const Node& node) const;

  /// Appends a call on a value, and gives its result.
  int call(const char* op, int value, std::vector<Argument> others) {
    const int result = add_value(graph_, value);
    call_in_place(op, value, std::move(others));
    graph_.nodes.back().results = {Value{result}};
    return result;
  }

  /// Appends a call that gives what it is given.
  void call_in_place(const char* op, int value, std::vector<Argument> others) {
    others.insert(others.begin(), Argument{Value{value}});
    graph_.nodes.push_back({op, std::move(others), {Value{value}}});
  }

  /// Makes the value that the last calls have given the result of the layer.
  void give(int value, const Node& layer, size_t first_call) {
    for (size_t i = first_call; i < graph_.nodes.size(); ++i) {
      rename(graph_.nodes[i], value, only_result(layer));
    }
  }

  Graph graph_;
  int64_t parts_;
  std::map<int, Tensor> weights_;  ///< By value.
};

/// Null where the sizes are not known, autocast changes dtypes, or nobody asks
/// for the result.
const Tensor* Opener::weight_of(const Node& node) const {
  if (!node.arguments[0].is<Value>() || !node.arguments[1].is<Value>() ||
      only_result(node) < 0) {
    return nullptr;
  }
  const auto found = weights_.find(node.arguments[1].as<Value>().id);
  const auto dtype = [this](int value) {
    return graph_.values[static_cast<size_t>(value)].dtype;
  };
  return found != weights_.end() && found->second.dim() == 2 &&
                 found->second.scalar_type() == dtype(only_result(node)) &&
                 found->second.scalar_type() ==
                     dtype(node.arguments[0].as<Value>().id)
             ? &found->second
             : nullptr;
}

/// x, weight, bias, gather_output, sequence_parallel_enabled,
/// sequence_dimension, output_size, segments, reduce_dtype, group
bool Opener::open_column(const Node& node) {
  const auto& arguments = node.arguments;
  const Tensor* weight = weight_of(node);
  if (weight == nullptr || !arguments[6].is<int64_t>()) {
    return false;
  }
  const auto size = arguments[6].as<int64_t>();
  const bool padded = size >= 0 && size != parts_ * weight->size(0);
  const bool gathers = arguments[3].as<bool>();
  const Argument& group = arguments[9];
  if (gathers && parts_ > 1 && arguments[7].as<ArgumentList>().size() > 1) {
    return false;  // parts of several segments
  }
  const size_t first_call = graph_.nodes.size();
  int y = arguments[0].as<Value>().id;
  if (arguments[4].as<bool>() && parts_ > 1) {
    y = call("colonnade::gather_from_sequence_parallel_region", y,
             {arguments[5], {true}, group, {}});
  }
  y = call(kLinear, y, {arguments[1], arguments[2]});
  if (gathers && parts_ > 1) {
    y = call("colonnade::gather_from_tensor_model_parallel_region", y,
             {kLastDim, group});
  }
  if (padded && gathers) {
    y = call("aten::narrow", y, {kLastDim, {int64_t{0}}, {size}});
  } else if (padded) {
    y = call("colonnade::zero_padding", y, {kLastDim, {size}, group});
  }
  give(y, node, first_call);
  return true;
}

/// x, weight, bias, input_is_parallel, sequence_parallel_enabled,
/// sequence_dimension, reduce_output, reduce_dtype, input_size, segments, group
bool Opener::open_row(const Node& node) {
  const auto& arguments = node.arguments;
  const Tensor* weight = weight_of(node);
  if (weight == nullptr || !arguments[8].is<int64_t>()) {
    return false;
  }
  if (!arguments[3].as<bool>() && parts_ > 1 &&
      arguments[9].as<ArgumentList>().size() > 1) {
    return false;  // parts of several segments
  }
  const Argument dtype = {static_cast<int64_t>(weight->scalar_type())};
  if (arguments[7] != Argument{} && arguments[7] != dtype && parts_ > 1) {
    return false;
  }
  const size_t first_call = graph_.nodes.size();
  const Argument& group = arguments[10];
  const auto size = arguments[8].as<int64_t>();
  const int64_t padding = size < 0 ? 0 : parts_ * weight->size(1) - size;
  int y = arguments[0].as<Value>().id;
  if (padding > 0 && arguments[3].as<bool>()) {
    y = call("colonnade::zero_padding", y, {kLastDim, {size}, group});
  } else if (padding > 0) {
    y = call("aten::constant_pad_nd", y,
             {{ArgumentList{{int64_t{0}}, {padding}}}, {int64_t{0}}});
  }
  if (parts_ == 1) {
    y = call(kLinear, y, {arguments[1], arguments[2]});
    give(y, node, first_call);
    return true;
  }
  if (!arguments[3].as<bool>()) {
    y = call("colonnade::scatter_to_tensor_model_parallel_region", y,
             {kLastDim, group});
  }
  y = call(kLinear, y, {arguments[1], {}});
  if (arguments[6].as<bool>() && arguments[4].as<bool>()) {
    y = call("colonnade::reduce_scatter_to_sequence_parallel_region", y,
             {arguments[5], group});
  } else if (arguments[6].as<bool>()) {
    call_in_place("colonnade::reduce_from_tensor_model_parallel_region_", y,
                  {group});
  }
  if (arguments[2] != Argument{}) {
    call_in_place("aten::add_.Tensor", y, {arguments[2], {int64_t{1}}});
  }
  give(y, node, first_call);
  return true;
}

}  // namespace

Graph open_layers(Graph graph, const PassFacts& facts) {
  return Opener(std::move(graph), facts).run();
}

}  // namespace colonnade::trace::detail

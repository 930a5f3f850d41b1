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

  /// Appends a call that gives `result`.
  void call(const char* op, std::vector<Argument> arguments, int result) {
    graph_.nodes.push_back({op, std::move(arguments), {Value{result}}});
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
/// sequence_dimension, output_size, segments, group
bool Opener::open_column(const Node& node) {
  const auto& arguments = node.arguments;
  const Tensor* weight = weight_of(node);
  if (weight == nullptr || !arguments[6].is<int64_t>()) {
    return false;
  }
  const auto output_size = arguments[6].as<int64_t>();
  const bool padded =
      output_size >= 0 && output_size != parts_ * weight->size(0);
  const bool gathers = arguments[3].as<bool>() && parts_ > 1;
  if (padded || (gathers && arguments[7].as<ArgumentList>().size() > 1)) {
    return false;
  }
  const int result = only_result(node);
  Argument x = arguments[0];
  if (arguments[4].as<bool>()) {
    const int whole = add_value(graph_, x.as<Value>().id);
    call("colonnade::gather_from_sequence_parallel_region",
         {x, arguments[5], {true}, arguments[8]}, whole);
    x = {Value{whole}};
  }
  const int product = gathers ? add_value(graph_, result) : result;
  call(kLinear, {x, arguments[1], arguments[2]}, product);
  if (gathers) {
    call("colonnade::gather_from_tensor_model_parallel_region",
         {{Value{product}}, {int64_t{-1}}, arguments[8]}, result);
  }
  return true;
}

/// x, weight, bias, input_is_parallel, sequence_parallel_enabled,
/// sequence_dimension, reduce_output, reduce_dtype, input_size, group
bool Opener::open_row(const Node& node) {
  const auto& arguments = node.arguments;
  const Tensor* weight = weight_of(node);
  if (weight == nullptr || !arguments[8].is<int64_t>()) {
    return false;
  }
  const auto input_size = arguments[8].as<int64_t>();
  const bool padded = input_size >= 0 && input_size != parts_ * weight->size(1);
  const Argument dtype = {static_cast<int64_t>(weight->scalar_type())};
  const bool converts =
      arguments[7] != Argument{} && arguments[7] != dtype && parts_ > 1;
  if (padded || converts) {
    return false;
  }
  const int result = only_result(node);
  Argument x = arguments[0];
  if (parts_ == 1) {
    call(kLinear, {x, arguments[1], arguments[2]}, result);
    return true;
  }
  if (!arguments[3].as<bool>()) {
    const int part = add_value(graph_, x.as<Value>().id);
    call("colonnade::scatter_to_tensor_model_parallel_region",
         {x, {int64_t{-1}}, arguments[9]}, part);
    x = {Value{part}};
  }
  const bool sequence_parallel = arguments[4].as<bool>();
  const bool reduces = arguments[6].as<bool>();
  const int product =
      reduces && sequence_parallel ? add_value(graph_, result) : result;
  call(kLinear, {x, arguments[1], {}}, product);
  if (!reduces) {
    return true;
  }
  if (sequence_parallel) {
    call("colonnade::reduce_scatter_to_sequence_parallel_region",
         {{Value{product}}, arguments[5], arguments[9]}, result);
  } else {
    call("colonnade::reduce_from_tensor_model_parallel_region_",
         {{Value{product}}, arguments[9]}, result);
  }
  if (arguments[2] != Argument{}) {
    call("aten::add_.Tensor", {{Value{result}}, arguments[2], {int64_t{1}}},
         result);
  }
  return true;
}

}  // namespace

Graph open_layers(Graph graph, const PassFacts& facts) {
  return Opener(std::move(graph), facts).run();
}

}  // namespace colonnade::trace::detail

// colonnade/trace/detail/check_inputs.cpp
#include "colonnade/trace/detail/check_inputs.h"

#include "colonnade/core/error.h"
#include "colonnade/trace/detail/structure.h"

#include <string>

namespace colonnade::trace::detail {
namespace {

using at::Tensor;
using c10::IValue;

constexpr int64_t kUnset = -1;

/// Gives a variable its value; names both places where they differ.
void set_variable(const Graph& graph, std::vector<int64_t>& variables,
                  int variable, int64_t value, const Input& input,
                  const std::string& place) {
  int64_t& slot = variables[static_cast<size_t>(variable)];
  check_arg(slot == kUnset || slot == value,
            "TensorParallelModel: ", input.name, ": ", place, " is ", value,
            ", but ", slot,
            " in an input before it, and the graph takes one size for both (",
            graph.variables[static_cast<size_t>(variable)].name,
            "), since the model threw where they differed");
  slot = value;
}

void check_tensor(const Graph& graph, const Input& input, const Tensor& tensor,
                  at::Device device, std::vector<int64_t>& variables) {
  check_arg(tensor.defined(), "TensorParallelModel: ", input.name,
            " is undefined; give a tensor");
  check_arg(tensor.scalar_type() == input.dtype,
            "TensorParallelModel: ", input.name, ": is ", tensor.scalar_type(),
            ", the graph takes ", input.dtype, "; convert it with to()");
  check_arg(tensor.device() == device, "TensorParallelModel: ", input.name,
            ": is on ", tensor.device(), ", the model on ", device,
            "; move it with to()");
  check_arg(tensor.dim() == static_cast<int64_t>(input.dims.size()),
            "TensorParallelModel: ", input.name, ": has shape ", tensor.sizes(),
            ", the graph takes ", input.dims.size(), " dims");
  for (size_t dim = 0; dim < input.dims.size(); ++dim) {
    const int64_t size = tensor.sizes()[dim];
    const InputDim& wanted = input.dims[dim];
    if (wanted.variable >= 0) {
      set_variable(graph, variables, wanted.variable, size, input,
                   concat("dim ", dim));
      continue;
    }
    check_arg(size == wanted.size, "TensorParallelModel: ", input.name,
              ": has shape ", tensor.sizes(), ", but dim ", dim,
              " is fixed to ", wanted.size,
              wanted.size == 1
                  ? ", as in the example; trace with an example of 2 or more, "
                    "or name the dim in TraceOptions::dynamic_dims"
                  : ": the model took no other size when it was traced");
  }
}

void check_constant(const Graph& graph, const Input& input, bool equal,
                    const IValue& given) {
  check_arg(equal, "TensorParallelModel: ", input.name, ": is ", given,
            ", but the graph was recorded with ",
            to_string(graph, input.constant),
            " and takes nothing else there; trace again with this value");
}

void check_leaf(const Graph& graph, const Input& input, const IValue& leaf,
                at::Device device, std::vector<int64_t>& variables) {
  const auto check_kind = [&](bool is, const char* kind) {
    check_arg(is, "TensorParallelModel: ", input.name, ": is ", leaf.tagKind(),
              ", the graph takes ", kind);
  };
  switch (input.kind) {
    case Input::Kind::kTensor:
      check_kind(leaf.isTensor(), "a tensor");
      check_tensor(graph, input, leaf.toTensor(), device, variables);
      return;
    case Input::Kind::kInt:
      check_kind(leaf.isInt(), "an int");
      if (input.variable >= 0) {
        set_variable(graph, variables, input.variable, leaf.toInt(), input,
                     "the int");
      } else {
        check_constant(graph, input, input.constant == Argument{leaf.toInt()},
                       leaf);
      }
      return;
    case Input::Kind::kFloat:
      check_kind(leaf.isDouble(), "a float");
      check_constant(graph, input,
                     input.constant.is<std::monostate>() ||
                         input.constant == Argument{leaf.toDouble()},
                     leaf);
      return;
    case Input::Kind::kBool:
      check_kind(leaf.isBool(), "a bool");
      check_constant(graph, input, input.constant == Argument{leaf.toBool()},
                     leaf);
      return;
    case Input::Kind::kString:
      check_kind(leaf.isString(), "a string");
      check_constant(graph, input,
                     input.constant == Argument{leaf.toStringRef()}, leaf);
      return;
  }
}

void check_structure(const Structure& wanted, const Structure& given) {
  check_arg(wanted.items.size() == given.items.size(),
            "TensorParallelModel: ", given.items.size(),
            given.items.size() == 1 ? " input" : " inputs",
            ", but the model was traced with ", wanted.items.size());
  for (size_t i = 0; i < wanted.items.size(); ++i) {
    check_arg(wanted.items[i] == given.items[i], "TensorParallelModel: input ",
              i, ": is ", describe(given.items[i]),
              ", but the model was traced with ", describe(wanted.items[i]),
              " of other items or keys");
  }
}

}  // namespace

CheckedInputs check_inputs(const Graph& graph,
                           const std::vector<IValue>& inputs, at::Device device,
                           int64_t degree) {
  CheckedInputs result;
  check_structure(graph.input_structure, flatten_inputs(inputs, result.leaves));
  std::vector<int64_t> variables(graph.variables.size(), kUnset);
  variables[0] = degree;
  for (size_t i = 0; i < graph.inputs.size(); ++i) {
    check_leaf(graph, graph.inputs[i], result.leaves[i], device, variables);
  }
  result.numbers.reserve(graph.expressions.size());
  for (const Expression& expression : graph.expressions) {
    result.numbers.push_back(evaluate(expression, variables));
  }
  return result;
}

}  // namespace colonnade::trace::detail

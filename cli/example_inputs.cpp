// cli/example_inputs.cpp
#include "cli/example_inputs.h"

#include "colonnade/core/error.h"

#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <array>
#include <string>

namespace colonnade::cli {
namespace {

using c10::IValue;
using trace::Graph;
using trace::Input;
using trace::InputDim;
using trace::Structure;

/// Asks for size `wanted` of dim `dim` of every input.
void set_size(const Graph& graph, size_t dim, int64_t wanted,
              const std::string& name, std::vector<int64_t>& variables) {
  for (const Input& input : graph.inputs) {
    if (dim >= input.dims.size()) {
      continue;
    }
    const InputDim& place = input.dims[dim];
    check_arg(place.variable >= 0 || place.size == wanted, name, " is ", wanted,
              ", but dim ", dim, " of ", input.name,
              " of this traced model is fixed to ", place.size);
    if (place.variable >= 0) {
      variables[static_cast<size_t>(place.variable)] = wanted;
    }
  }
}

IValue value_of(const Input& input, const std::vector<int64_t>& variables) {
  switch (input.kind) {
    case Input::Kind::kTensor: {
      std::vector<int64_t> sizes;
      for (const InputDim& dim : input.dims) {
        sizes.push_back(dim.variable >= 0
                            ? variables[static_cast<size_t>(dim.variable)]
                            : dim.size);
      }
      return at::isIntegralType(input.dtype, /*includeBool=*/true)
                 ? at::zeros(sizes, input.dtype)
                 : at::ones(sizes, input.dtype);
    }
    case Input::Kind::kInt:
      return input.variable >= 0
                 ? variables[static_cast<size_t>(input.variable)]
                 : input.constant.as<int64_t>();
    case Input::Kind::kFloat:
      return input.constant.is<double>() ? input.constant.as<double>() : 1.0;
    case Input::Kind::kBool:
      return input.constant.as<bool>();
    case Input::Kind::kString:
      return input.constant.as<std::string>();
  }
  return {};
}

}  // namespace

std::vector<IValue> example_inputs(const Graph& graph, const InputSize& size) {
  for (const Structure& item : graph.input_structure.items) {
    check_arg(item.kind == Structure::Kind::kLeaf,
              "this traced model takes nested inputs, and only tensors and "
              "numbers are made up here");
  }
  std::vector<int64_t> variables;
  for (const trace::Variable& variable : graph.variables) {
    variables.push_back(variable.example);
  }
  if (size.batch.has_value()) {
    set_size(graph, 0, *size.batch, "--batch", variables);
  }
  if (size.seq.has_value()) {
    set_size(graph, 1, *size.seq, "--seq", variables);
  }
  std::vector<IValue> inputs;
  for (const Input& input : graph.inputs) {
    inputs.push_back(value_of(input, variables));
  }
  return inputs;
}

}  // namespace colonnade::cli

// colonnade/trace/detail/check_inputs.h
#pragma once

#include "colonnade/trace/detail/program.h"
#include "colonnade/trace/graph.h"

#include <ATen/core/ivalue.h>

#include <cstdint>
#include <vector>

namespace colonnade::trace::detail {

/// A call's inputs as a program takes them.
struct CheckedInputs {
  std::vector<c10::IValue> leaves;
  Numbers numbers;
};

/// Takes the inputs apart and works out the graph's numbers.
///
/// device   where tensors must be
/// degree   the tensor-parallel size
/// Errors   InvalidArgument names the input, what the graph takes there and
///          what it was given
CheckedInputs check_inputs(const Graph& graph,
                           const std::vector<c10::IValue>& inputs,
                           at::Device device, int64_t degree);

}  // namespace colonnade::trace::detail

// colonnade/trace/detail/recorder.h
#pragma once

#include "colonnade/trace/graph.h"

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>

#include <functional>
#include <string>
#include <vector>

namespace colonnade::trace::detail {

/// A model's forward, whatever its arguments are.
using Forward = std::function<c10::IValue(const std::vector<c10::IValue>&)>;

/// A parameter or buffer of the model that is recorded.
struct NamedTensor {
  std::string name;
  at::Tensor tensor;
  bool is_parameter = true;
};

/// A float that left the graph: what the program did with it is not in it.
struct Escape {
  size_t node = 0;
  double value = 0;
};

/// One forward pass: a graph whose ints are what they were.
struct Recording {
  Graph graph;
  std::vector<at::Tensor> weights;  ///< One for each of graph.weights.
  std::vector<Escape> escapes;
  std::string random_op;  ///< The first that draws; empty where none does.
};

/// Runs `forward` once and notes every dispatcher call, above autocast and
/// autograd. What an op calls itself is not noted.
///
/// A tensor that is no input, no named tensor and no result of a call becomes a
/// constant; so does one that was made by an `empty` and filled behind the
/// dispatcher, as at::tensor does. An input or a constant that the graph writes
/// to is copied first. Buffers it writes to become state, and hold what forward
/// wrote afterwards.
///
/// Call in inference mode, outside of another recording, on the thread of a
/// rank. `inputs` are copied, so forward may write to them.
///
/// Errors  what `forward` throws; InvalidArgument names the op, the argument
///         and the values where data changed behind the dispatcher, a parameter
///         is written to, or an op takes or gives what a graph cannot hold
COLONNADE_API Recording record(const Forward& forward,
                               const std::vector<c10::IValue>& inputs,
                               const std::vector<NamedTensor>& tensors);

/// The inputs with every tensor in them copied.
COLONNADE_API std::vector<c10::IValue> copy_inputs(
    const std::vector<c10::IValue>& inputs);

/// For errors: "F32 [2, 3] (0.5, 1, …)".
std::string show_tensor(const at::Tensor& tensor);

}  // namespace colonnade::trace::detail

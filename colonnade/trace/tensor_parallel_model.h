// colonnade/trace/tensor_parallel_model.h
#pragma once

#include "colonnade/core/api.h"
#include "colonnade/trace/graph.h"

#include <ATen/core/Tensor.h>
#include <ATen/core/ivalue.h>

#include <concepts>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace colonnade::trace {

namespace detail {
class ServedModel;
class ModelAccess;
}  // namespace detail

/// What one call of a graph took on rank 0.
struct CallProfile {
  size_t node = 0;  ///< In the optimized graph's nodes.
  double seconds = 0;
  int64_t bytes = 0;  ///< Of its results.
};

/// A traced model on all its ranks, called like the model it was made of.
///
/// Rank 0 is the thread that calls; the other ranks are threads that sleep
/// between calls. Made by the ranks of a launcher, each of them has its own,
/// and calls are collective. Calls of several threads are served one after the
/// other. A copy is the same session.
class COLONNADE_API TensorParallelModel {
 public:
  /// The output, if it is a tensor.
  ///
  /// inputs  tensors, ints, floats and bools, as traced
  /// Errors  InvalidArgument, before any rank starts, names the input whose
  ///         count, dtype, device or size the graph does not take, and where
  ///         the model gives something else than a tensor: call forward.
  ///         What a rank throws reaches the caller with the rank's number and
  ///         its type; the next call works. A session's state is then
  ///         undefined until reset_state().
  template <typename... Inputs>
    requires(std::constructible_from<c10::IValue, const Inputs&>&&...)
  at::Tensor operator()(const Inputs&... inputs) {
    return call({c10::IValue(inputs)...});
  }

  /// The output of rank 0, whatever it is. Errors as above.
  c10::IValue forward(const std::vector<c10::IValue>& inputs);

  /// The outputs of all ranks of this process, in rank order.
  std::vector<c10::IValue> forward_all_ranks(
      const std::vector<c10::IValue>& inputs);

  /// From now on compares the outputs of all thread ranks after every call, and
  /// throws CommError where one differs from rank 0's in a bit.
  void compare_ranks(bool enabled = true);

  /// Puts buffers that forward writes to, such as a KV cache, back to what they
  /// were when the model was traced.
  void reset_state();

  /// Another session: the same weights and ranks, a state of its own.
  TensorParallelModel new_session() const;

  int64_t tensor_parallel_size() const;
  const Graph& graph() const;            ///< As traced, and as saved.
  const Graph& optimized_graph() const;  ///< As it runs.

  /// One call, with the time of each node.
  std::vector<CallProfile> profile(const std::vector<c10::IValue>& inputs);

 private:
  friend class detail::ModelAccess;
  struct Session;
  explicit TensorParallelModel(std::shared_ptr<detail::ServedModel> model);
  at::Tensor call(const std::vector<c10::IValue>& inputs);

  std::shared_ptr<detail::ServedModel> model_;
  std::shared_ptr<Session> session_;
};

namespace detail {

/// What the functions of this room see of a model.
class ModelAccess {
 public:
  static TensorParallelModel make(std::shared_ptr<ServedModel> model) {
    return TensorParallelModel(std::move(model));
  }
  static ServedModel& served(const TensorParallelModel& model) {
    return *model.model_;
  }
};

}  // namespace detail
}  // namespace colonnade::trace

// colonnade/trace/parallel_model_trace.cpp
#include "colonnade/trace/parallel_model_trace.h"

#include "colonnade/checkpoint/detail/consensus.h"
#include "colonnade/comm/exchange.h"
#include "colonnade/core/error.h"
#include "colonnade/parallel_state/parallel_state.h"
#include "colonnade/sharding/attributes.h"
#include "colonnade/trace/detail/graph_json.h"
#include "colonnade/trace/detail/served_model.h"
#include "colonnade/trace/detail/trace_graph.h"
#include "colonnade/trace/detail/tracing_ranks.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <exception>
#include <memory>
#include <string>
#include <thread>
#include <utility>

namespace colonnade::trace {
namespace {

using c10::IValue;
using detail::RankModel;
using detail::RankWeights;
using detail::ServedModel;
using detail::Traced;

/// What the rank that traced tells the others: the graph, and its constants.
struct Shared {
  std::string graph;
  std::vector<at::Tensor> constants;
};

/// Traces on thread ranks of this process, from the thread of a rank.
Traced trace_beside(const MakeTraceable& make,
                    const std::vector<IValue>& inputs, int degree,
                    const TraceOptions& options) {
  Traced traced;
  std::exception_ptr error;
  std::thread thread([&] {
    try {
      traced = detail::trace_graph(make, inputs, degree, options);
    } catch (...) {
      error = std::current_exception();
    }
  });
  thread.join();
  if (error != nullptr) {
    std::rethrow_exception(error);
  }
  return traced;
}

/// The weights that this rank's own build of the model has, and the constants.
RankWeights own_weights(const Graph& graph, const RankModel& model,
                        const std::vector<at::Tensor>& constants) {
  RankWeights weights;
  size_t constant = 0;
  for (const Weight& weight : graph.weights) {
    if (weight.kind == Weight::Kind::kConstant) {
      weights.tensors.push_back(constants.at(constant++));
      weights.attributes.emplace_back();
      continue;
    }
    const auto named = std::ranges::find(model.tensors, weight.name,
                                         &detail::NamedTensor::name);
    check_arg(named != model.tensors.end(),
              "parallel_model_trace: ", weight.name,
              " is missing in the model that func gives here");
    weights.tensors.push_back(named->tensor.detach());
    weights.attributes.push_back(get_tensor_parallel_attributes(named->tensor));
  }
  return weights;
}

/// One rank of each tensor-parallel group traces on threads of its own; then
/// each rank builds its part of the model for itself.
std::shared_ptr<ServedModel> trace_collectively(
    const MakeTraceable& make, const std::vector<IValue>& inputs,
    int64_t tp_degree, const TraceOptions& options) {
  const GroupPtr group = parallel_state::get_tensor_model_parallel_group();
  Shared shared;
  colonnade::detail::together(group, [&] {
    check_arg(tp_degree == group->size(), "parallel_model_trace: tp_degree is ",
              tp_degree, ", but these ranks have a tensor-parallel size of ",
              group->size());
    if (group->rank() == 0) {
      const Traced traced = trace_beside(make, inputs, group->size(), options);
      shared.graph = detail::to_json(traced.graph);
      for (size_t i = 0; i < traced.graph.weights.size(); ++i) {
        if (traced.graph.weights[i].kind == Weight::Kind::kConstant) {
          shared.constants.push_back(traced.weights[0].tensors[i].contiguous());
        }
      }
    }
  });
  shared.graph = broadcast_bytes(*group, shared.graph, /*root=*/0);
  Graph graph = detail::graph_from_json(shared.graph, "parallel_model_trace");
  size_t constant = 0;
  for (const Weight& weight : graph.weights) {
    if (weight.kind == Weight::Kind::kConstant) {
      if (group->rank() != 0) {
        const ValueInfo& info = graph.values[static_cast<size_t>(weight.value)];
        shared.constants.push_back(at::empty(
            info.example_shape,
            at::TensorOptions().dtype(info.dtype).device(graph.device)));
      }
      group->broadcast(shared.constants[constant++], /*root=*/0);
    }
  }
  RankWeights weights;
  colonnade::detail::together(group, [&] {
    weights =
        own_weights(graph, detail::make_rank_model(make), shared.constants);
  });
  const at::Device device(graph.device);
  return std::make_shared<ServedModel>(std::move(graph), std::move(weights),
                                       device, options.optimize);
}

}  // namespace

TensorParallelModel detail::trace_model(const MakeTraceable& make,
                                        const std::vector<IValue>& inputs,
                                        int64_t tp_degree,
                                        const TraceOptions& options) {
  check_arg(tp_degree >= 1, "parallel_model_trace: tp_degree is ", tp_degree,
            "; it must be at least 1");
  if (called_by_rank()) {
    return ModelAccess::make(
        trace_collectively(make, inputs, tp_degree, options));
  }
  Traced traced =
      trace_graph(make, inputs, static_cast<int>(tp_degree), options);
  const at::Device device(traced.graph.device);
  return ModelAccess::make(std::make_shared<ServedModel>(
      std::move(traced.graph), std::move(traced.weights),
      std::move(traced.pool), device, options.optimize));
}

}  // namespace colonnade::trace

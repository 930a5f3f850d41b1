// colonnade/trace/parallel_model_trace.cpp
#include "colonnade/trace/parallel_model_trace.h"

#include "colonnade/core/error.h"
#include "colonnade/trace/detail/served_model.h"
#include "colonnade/trace/detail/trace_graph.h"

#include <memory>
#include <utility>

namespace colonnade::trace {

using c10::IValue;

TensorParallelModel detail::trace_model(const MakeTraceable& make,
                                        const std::vector<IValue>& inputs,
                                        int64_t tp_degree,
                                        const TraceOptions& options) {
  check_arg(tp_degree >= 1, "parallel_model_trace: tp_degree is ", tp_degree,
            "; it must be at least 1");
  Traced traced =
      trace_graph(make, inputs, static_cast<int>(tp_degree), options);
  return ModelAccess::make(std::make_shared<ServedModel>(
      std::move(traced.graph), std::move(traced.weights),
      std::move(traced.pool), options.optimize));
}

}  // namespace colonnade::trace

// colonnade/trace/parallel_model_trace.h
#pragma once

#include "colonnade/core/api.h"
#include "colonnade/trace/tensor_parallel_model.h"
#include "colonnade/trace/trace_options.h"
#include "colonnade/trace/traceable.h"

#include <ATen/core/ivalue.h>

#include <cstdint>
#include <utility>
#include <vector>

namespace colonnade::trace {

namespace detail {
COLONNADE_API TensorParallelModel
trace_model(const MakeTraceable& make, const std::vector<c10::IValue>& inputs,
            int64_t tp_degree, const TraceOptions& options);
}  // namespace detail

/// Traces a model into one graph for all ranks, sizes and degrees, with its
/// weights.
///
/// Outside a rank it makes `tp_degree` thread ranks, builds the model on each,
/// and keeps them as the ranks of the result. Called by the ranks of a launcher
/// it is collective, `tp_degree` must be their tensor-parallel size, and each
/// rank keeps the part that its own call of `func` builds.
///
/// func    takes nothing and returns a model with its weights in place: a
///         ModuleHolder, a shared_ptr of a module, an AnyModule or a Traceable.
///         It is called on every rank, and again on ranks of a second degree.
///         The model is put in eval state
/// inputs  what its forward takes: tensors, ints, floats, bools, strings, and
///         tuples, lists and dicts of them. Sizes of 2 and more that the model
///         takes in other sizes too may vary, and so may ints and floats
/// Cost    building the model twice, and some dozen forward passes
/// Errors  InvalidArgument names the op, the argument and the values where the
///         model cannot be one graph: a float that leaves it (item), control
///         flow that depends on sizes or ranks, data changed behind the
///         dispatcher, random ops. What `func` or forward throws on a rank
template <typename Func>
TensorParallelModel parallel_model_trace(Func func,
                                         const std::vector<c10::IValue>& inputs,
                                         int64_t tp_degree = 1,
                                         const TraceOptions& options = {}) {
  return detail::trace_model(traceable_maker(std::move(func)), inputs,
                             tp_degree, options);
}

}  // namespace colonnade::trace

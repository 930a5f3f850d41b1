// colonnade/trace/detail/trace_graph.h
#pragma once

#include "colonnade/launch/rank_pool.h"
#include "colonnade/trace/detail/tracing_ranks.h"
#include "colonnade/trace/graph.h"
#include "colonnade/trace/trace_options.h"
#include "colonnade/trace/traceable.h"

#include <ATen/core/ivalue.h>

#include <memory>
#include <vector>

namespace colonnade::trace::detail {

/// A graph, the weights of every rank, and the ranks.
struct Traced {
  Graph graph;
  std::vector<RankWeights> weights;
  std::unique_ptr<RankPool> pool;
};

/// Records the model on thread ranks, at several sizes of the inputs and a
/// second degree, makes one graph of all, and compares its replay with the
/// model's own forward at sizes that were not recorded, twice in a row.
///
/// Cost    about a dozen forward passes, and building the model twice
/// Errors  InvalidArgument names the op, the argument and the values where the
///         model cannot be one graph
Traced trace_graph(const MakeTraceable& make,
                   const std::vector<c10::IValue>& inputs, int degree,
                   const TraceOptions& options);

}  // namespace colonnade::trace::detail

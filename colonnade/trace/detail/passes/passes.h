// colonnade/trace/detail/passes/passes.h
#pragma once

#include "colonnade/core/api.h"
#include "colonnade/parallel_layers/detail/matmul.h"
#include "colonnade/trace/graph.h"

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <span>
#include <vector>

namespace colonnade::trace::detail {

/// What a pass may know, beside the graph, of where it will run. The same on
/// every rank, since the ranks share one Program.
struct PassFacts {
  at::Device device = at::kCPU;
  int64_t degree = 1;
  parallel_layers::detail::MatmulEngine engine =
      parallel_layers::detail::matmul_engine();
  /// One rank's, one for each of Graph::weights; looked at for dtype and shape.
  std::vector<at::Tensor> weights;
};

/// A graph that computes the same and runs faster. Takes a graph that is right
/// and gives one; what follows from weights alone goes to Graph::prologue.
struct Pass {
  const char* name;
  Graph (*function)(Graph graph, const PassFacts& facts);
  bool exact;  ///< Results are the same bits; else they differ in rounding.
};

/// All passes, in the order in which they are made.
COLONNADE_API std::span<const Pass> passes();

/// The graph after all passes. Where they pack a weight that is used otherwise
/// too, or that the caller keeps, it is in memory twice.
COLONNADE_API Graph optimize(Graph graph, const PassFacts& facts);

/// Leaves out calls that give what they are given.
COLONNADE_API Graph skip_identities(Graph graph, const PassFacts& facts);

/// Replaces parallel layers by the ops of which they consist at this degree, so
/// that other passes see their products.
COLONNADE_API Graph open_layers(Graph graph, const PassFacts& facts);

/// Drops calls of which nobody sees anything.
COLONNADE_API Graph drop_dead(Graph graph, const PassFacts& facts);

/// Moves what follows from weights alone to the prologue: views, and results
/// that are small.
COLONNADE_API Graph fold_constants(Graph graph, const PassFacts& facts);

/// Gives arithmetic with a constant number the tensor that torch makes of it at
/// each call.
COLONNADE_API Graph wrap_scalars(Graph graph, const PassFacts& facts);

/// Packs the weights of matrix products in the prologue as oneDNN likes them.
COLONNADE_API Graph pack_linear(Graph graph, const PassFacts& facts);

/// Lets a product of packed weights compute the activation that follows it.
COLONNADE_API Graph fuse_activation(Graph graph, const PassFacts& facts);

}  // namespace colonnade::trace::detail

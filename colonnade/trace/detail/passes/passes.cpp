// colonnade/trace/detail/passes/passes.cpp
#include "colonnade/trace/detail/passes/passes.h"

#include <array>
#include <utility>

namespace colonnade::trace::detail {

std::span<const Pass> passes() {
  static constexpr std::array<Pass, 8> kPasses = {{
      {"open_layers", &open_layers, true},
      {"skip_identities", &skip_identities, true},
      {"drop_dead", &drop_dead, true},
      {"fold_constants", &fold_constants, true},
      {"wrap_scalars", &wrap_scalars, true},
      {"pack_linear", &pack_linear, false},
      {"fuse_activation", &fuse_activation, false},
      // What the others have left behind.
      {"drop_dead", &drop_dead, true},
  }};
  return kPasses;
}

Graph optimize(Graph graph, const PassFacts& facts) {
  for (const Pass& pass : passes()) {
    graph = pass.function(std::move(graph), facts);
  }
  return graph;
}

}  // namespace colonnade::trace::detail

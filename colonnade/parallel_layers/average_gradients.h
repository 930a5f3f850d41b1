// colonnade/parallel_layers/average_gradients.h
#pragma once

#include "colonnade/comm/group.h"
#include "colonnade/core/api.h"

namespace torch::nn {
class Module;
}

namespace colonnade::parallel_layers {

/// Averages the gradients of `model`'s parameters over the data-parallel
/// group, in buckets of one dtype and at most 25 MiB, in the order of
/// parameters(). A tied parameter is averaged once. Collective; a group of one
/// costs nothing. Inside no_sync() it does nothing.
///
/// Errors  InvalidArgument, on every rank, names the parameters that have a
///         gradient on some ranks only
COLONNADE_API void average_gradients(torch::nn::Module& model,
                                     const GroupPtr& group = nullptr);

/// While it lives, average_gradients of this rank does nothing: for all but the
/// last micro-batch of a step that accumulates gradients.
class COLONNADE_API NoSyncScope {
 public:
  NoSyncScope();
  ~NoSyncScope();
  NoSyncScope(const NoSyncScope&) = delete;
  NoSyncScope& operator=(const NoSyncScope&) = delete;
};

[[nodiscard]] inline NoSyncScope no_sync() {
  return {};
}

/// Makes `module`'s replicated parameters right under sequence parallelism,
/// where each rank sees its part of the sequence and so has a part of their
/// gradient: every backward sums it over the tensor-parallel group before it is
/// accumulated. For torch::nn modules (LayerNorm) between parallel layers; the
/// layers of this library do it by themselves.
///
/// Asked again for the same group, it changes nothing; for another, gradients
/// are summed over both. It holds for parameters that are frozen now, and for
/// groups of the same name after initialize_model_parallel was called again. A
/// clone() of the module does not have it: call this on the clone.
COLONNADE_API void sum_gradients_over_sequence(torch::nn::Module& module,
                                               const GroupPtr& group = nullptr);

}  // namespace colonnade::parallel_layers

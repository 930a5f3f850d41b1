// colonnade/parallel_layers/init.h
#pragma once

#include "colonnade/core/api.h"

#include <ATen/core/Tensor.h>

#include <functional>

namespace colonnade::parallel_layers {

/// Fills a whole tensor in place, as the functions of torch::nn::init do. Every
/// rank draws the same; none may wait for another, as one at a time has its
/// turn.
using InitMethod = std::function<void(at::Tensor&)>;

/// Draws the whole tensor that `parameter` is a shard of with `method`, keeps
/// this rank's ranges, and zeroes padding. Every tensor-parallel degree thus
/// starts from the same bits, and from those of torch::nn. A replicated
/// parameter is filled as it is; on meta nothing is drawn, as in torch::nn.
///
/// Cost  one whole tensor of memory, for one rank of a process at a time
COLONNADE_API void init_parameter(at::Tensor& parameter,
                                  const InitMethod& method);

}  // namespace colonnade::parallel_layers

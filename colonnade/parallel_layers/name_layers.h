#pragma once

#include "colonnade/core/api.h"

#include <torch/nn/module.h>

namespace colonnade::parallel_layers {

/// Tells the parallel layers of `model` their names in it, such as
/// "layers.7.mlp.down", so that errors say which layer a collective is of.
/// Without it they say the kind of layer. To be called on every rank, or not,
/// once the model is built; `train` and `parallel_model_trace` do.
COLONNADE_API void name_layers(torch::nn::Module& model);

}  // namespace colonnade::parallel_layers

// colonnade/sharding/move_model_to_device.h
#pragma once

#include "colonnade/core/api.h"

#include <c10/core/Device.h>

namespace torch::nn {
class Module;
}

namespace colonnade::parallel_state {

/// Moves a model's parameters, their gradients and its buffers to `device`.
///
/// Tensors keep their identity, so that members, tensor-parallel attributes,
/// ties (one tensor under several names) and an optimizer's references survive.
/// Optimizer state does not move. From meta, memory is allocated and left
/// uninitialised, and gradients are dropped: load or initialise the weights,
/// and make the optimizer afterwards.
COLONNADE_API void move_model_to_device(torch::nn::Module& model,
                                        c10::Device device);

}  // namespace colonnade::parallel_state

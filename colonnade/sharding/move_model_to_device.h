// colonnade/sharding/move_model_to_device.h
#pragma once

#include <c10/core/Device.h>

#include "colonnade/core/api.h"

namespace torch::nn {
class Module;
}

namespace colonnade::parallel_state {

/// Moves a model's parameters, their gradients and its buffers to `device`.
///
/// Tensors keep their identity, so that tensor-parallel attributes, ties and
/// an optimizer's references survive. Optimizer state does not move. From
/// meta, memory is allocated and left uninitialised: make the optimizer
/// afterwards, and load or initialise the weights.
COLONNADE_API void move_model_to_device(torch::nn::Module& model,
                                        c10::Device device);

}  // namespace colonnade::parallel_state

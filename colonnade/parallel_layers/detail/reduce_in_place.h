// colonnade/parallel_layers/detail/reduce_in_place.h
#pragma once

#include "colonnade/comm/group.h"

#include <ATen/core/Tensor.h>

namespace colonnade::parallel_layers::detail {

/// reduce_from_tensor_model_parallel_region into the memory of `x`, for a
/// tensor that nobody else holds: it saves a copy. Differentiable.
at::Tensor reduce_in_place(at::Tensor x, const GroupPtr& group);

}  // namespace colonnade::parallel_layers::detail

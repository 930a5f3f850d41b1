// colonnade/parallel_layers/sharding.h
#pragma once

#include "colonnade/sharding/attributes.h"
#include "colonnade/sharding/move_model_to_device.h"
#include "colonnade/sharding/split_join.h"

// What the sharding room gives to users of layers, under the layers' namespace.
namespace colonnade::parallel_layers {

using colonnade::copy_tensor_parallel_attributes;
using colonnade::gather_parameter;
using colonnade::get_tensor_parallel_attributes;
using colonnade::set_tensor_parallel_attributes;
using colonnade::split_parameter;
using colonnade::TensorParallelAttributes;
using colonnade::parallel_state::move_model_to_device;

}  // namespace colonnade::parallel_layers

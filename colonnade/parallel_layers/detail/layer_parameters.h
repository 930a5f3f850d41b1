// colonnade/parallel_layers/detail/layer_parameters.h
#pragma once

#include "colonnade/comm/group.h"
#include "colonnade/core/api.h"
#include "colonnade/parallel_layers/init.h"
#include "colonnade/sharding/shard_spec.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string_view>

namespace colonnade::parallel_layers::detail {

/// How a layer splits a size over a group.
struct LayerSplit {
  std::string_view layer;  ///< For errors.
  std::string_view name;   ///< Of the size, for errors.
  int64_t dim;             ///< Of the weight.
  int64_t size;
  at::IntArrayRef segments = {};
  bool pad = false;
};

/// InvalidArgument where the size does not divide and is not to be padded,
/// where segments do not add up to it, and where they are to be padded.
COLONNADE_API ShardSpec layer_spec(const LayerSplit& split, const Group& group);

/// Uninitialised memory for a parameter of `whole_shape` that is split as
/// `spec` says, with the attributes set.
at::Tensor empty_shard(at::IntArrayRef whole_shape, const ShardSpec& spec,
                       const Group& group, at::TensorOptions options);

/// A copy of `parameter`, of its attributes and of requires_grad, on `device`
/// (empty: where it is). Undefined stays undefined.
at::Tensor copy_parameter(const at::Tensor& parameter,
                          const std::optional<at::Device>& device);

/// Fills weight and bias as torch::nn::Linear does; `init_method`, if any,
/// fills the weight.
void init_linear(at::Tensor& weight, at::Tensor& bias, int64_t input_size,
                 const InitMethod& init_method);

}  // namespace colonnade::parallel_layers::detail

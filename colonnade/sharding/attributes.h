// colonnade/sharding/attributes.h
#pragma once

#include "colonnade/core/api.h"
#include "colonnade/sharding/shard_spec.h"

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>

namespace colonnade {

/// What makes a parameter a shard. A parameter without it is replicated.
struct TensorParallelAttributes {
  ShardSpec spec;
  std::string group;  ///< The name of the group it is split over.

  bool operator==(const TensorParallelAttributes&) const = default;
};

/// Attributes hang on a tensor's identity (its TensorImpl): moving a module,
/// changing a parameter's data or its requires_grad keeps them; a clone or a
/// detached tensor has none.
COLONNADE_API void set_tensor_parallel_attributes(
    const at::Tensor& tensor, TensorParallelAttributes attributes);

/// Empty for a replicated tensor.
COLONNADE_API std::optional<TensorParallelAttributes>
get_tensor_parallel_attributes(const at::Tensor& tensor);

/// Gives `to` the attributes of `from`, or none where `from` has none.
COLONNADE_API void copy_tensor_parallel_attributes(const at::Tensor& to,
                                                   const at::Tensor& from);

}  // namespace colonnade

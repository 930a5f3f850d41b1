// colonnade/parallel_layers/mappings.h
#pragma once

#include "colonnade/comm/group.h"
#include "colonnade/core/api.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

namespace colonnade::parallel_layers {

// The differentiable collectives of tensor parallelism. Each is a dispatcher op
// (torch.ops.colonnade.*) whose backward is another of them, so that second
// derivatives are right. `group` null is the current tensor-parallel group; a
// group of one is the identity. `dim` may be negative. `reduce_dtype` is in
// what gradients are added up; empty: their own dtype.
//
// Source  Shoeybi et al. 2019 (arXiv 1909.08053), section 3, f and g;
//         Korthikanti et al. 2022 (arXiv 2205.05198), section 4.2, for the
//         sequence-parallel ones

/// Forward: identity (a view). Backward: all-reduce. Where a tensor that is
/// equal on every rank enters a sharded region.
COLONNADE_API at::Tensor copy_to_tensor_model_parallel_region(
    const at::Tensor& x, const GroupPtr& group = nullptr,
    std::optional<at::ScalarType> reduce_dtype = std::nullopt);

/// Forward: all-reduce. Backward: identity.
COLONNADE_API at::Tensor reduce_from_tensor_model_parallel_region(
    const at::Tensor& x, const GroupPtr& group = nullptr);

/// Forward: this rank's even part of `dim`. Backward: all-gather.
COLONNADE_API at::Tensor scatter_to_tensor_model_parallel_region(
    const at::Tensor& x, int64_t dim = -1, const GroupPtr& group = nullptr);

/// Forward: all-gather along `dim`. Backward: this rank's part.
COLONNADE_API at::Tensor gather_from_tensor_model_parallel_region(
    const at::Tensor& x, int64_t dim = -1, const GroupPtr& group = nullptr);

/// Forward: this rank's part of the sequence. Backward: all-gather.
COLONNADE_API at::Tensor scatter_to_sequence_parallel_region(
    const at::Tensor& x, int64_t sequence_dimension = 0,
    const GroupPtr& group = nullptr);

/// Forward: all-gather along the sequence. Backward: reduce-scatter where the
/// whole sequence enters a sharded region (`to_model_parallel`), this rank's
/// part where every rank goes on alike.
COLONNADE_API at::Tensor gather_from_sequence_parallel_region(
    const at::Tensor& x, int64_t sequence_dimension = 0,
    bool to_model_parallel = true, const GroupPtr& group = nullptr,
    std::optional<at::ScalarType> reduce_dtype = std::nullopt);

/// Forward: reduce-scatter along the sequence. Backward: all-gather.
COLONNADE_API at::Tensor reduce_scatter_to_sequence_parallel_region(
    const at::Tensor& x, int64_t sequence_dimension = 0,
    const GroupPtr& group = nullptr);

}  // namespace colonnade::parallel_layers

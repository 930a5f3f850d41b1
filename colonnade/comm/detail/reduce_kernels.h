// colonnade/comm/detail/reduce_kernels.h
#pragma once

#include "colonnade/comm/call.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

namespace colonnade::detail {

/// Whether tensors of `dtype` can be combined with `op`.
bool is_reducible(at::ScalarType dtype, ReduceOp op);

/// Combines elements [begin, end) of `ins`, in their order, into each of
/// `outs`. An out may be one of the ins, and overlap none of them otherwise.
///
/// Sums and products of float16 and bfloat16 are taken in float32 and rounded
/// once; those of integers wrap. Max and min of a NaN and anything are NaN.
void reduce(at::ScalarType dtype, ReduceOp op, std::span<std::byte* const> outs,
            std::span<const std::byte* const> ins, int64_t begin, int64_t end);

}  // namespace colonnade::detail

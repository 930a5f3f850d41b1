// colonnade/models/parallel_region.h
#pragma once

#include <ATen/core/Tensor.h>

namespace colonnade {

/// `x` on its way into several column-parallel products: with sequence
/// parallelism the whole sequence, gathered; else `x` itself. Backward sums
/// over the tensor-parallel ranks. Done once here, not once in each layer, it
/// is one collective for query, key and value, and one for gate and up.
///
/// x       [batch, seq, hidden], this rank's part of seq if sequence-parallel
/// Output  [batch, seq, hidden], whole
at::Tensor enter_parallel_region(const at::Tensor& x, bool sequence_parallel);

}  // namespace colonnade

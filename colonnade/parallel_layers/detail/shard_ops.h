// colonnade/parallel_layers/detail/shard_ops.h
#pragma once

#include "colonnade/comm/group.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

namespace colonnade::parallel_layers::detail {

// What layers do to this rank's shard without communication. The rank is read
// inside dispatcher ops, so that one recorded graph is valid on every rank.

/// `x` with zeros where its dim `dim`, the rank's part of ceil(whole_size / P)
/// indices of `whole_size`, goes beyond the whole. Neither value nor gradient
/// passes there.
at::Tensor zero_padding(const at::Tensor& x, int64_t dim, int64_t whole_size,
                        const GroupPtr& group);

/// The rows of this rank's part of a table, zeros for ids of other ranks.
///
/// weight  [ceil(num_embeddings / P), embedding_dim]; whole rows, of which none
///         is of another rank, if not `rows_are_split`
/// ids     integers of any shape
/// Output  [ids..., embedding_dim]
/// Errors  InvalidArgument with the id and the limit, see
///         functional::parallel_embedding
at::Tensor vocab_embedding(const at::Tensor& weight, const at::Tensor& ids,
                           int64_t num_embeddings,
                           std::optional<int64_t> padding_idx,
                           bool rows_are_split, const GroupPtr& group);

}  // namespace colonnade::parallel_layers::detail

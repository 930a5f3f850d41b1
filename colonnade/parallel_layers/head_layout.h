// colonnade/parallel_layers/head_layout.h
#pragma once

#include "colonnade/comm/group.h"
#include "colonnade/core/api.h"
#include "colonnade/sharding/shard_spec.h"

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace colonnade::parallel_layers {

/// How many heads an attention has, over all ranks.
struct AttentionHeads {
  int64_t num_heads = 0;     ///< Query heads; divide over the ranks.
  int64_t num_kv_heads = 0;  ///< Key heads; divide num_heads.
  int64_t head_dim = 0;
};

/// Which heads one tensor-parallel rank attends with.
///
/// Query heads are split evenly. Where the key heads divide too, a rank holds
/// just those that its query heads use. Else the rows of the key and value
/// weights are split evenly all the same, their outputs are gathered, and each
/// rank takes its key heads from the whole: no weight is on two ranks, and the
/// gather's backward adds the gradients up.
struct COLONNADE_API HeadLayout {
  int64_t num_heads = 0;  ///< Query heads of this rank.
  IndexRange kv_heads;    ///< The key heads that they use, of the whole.
  bool gather_kv = false;
  /// Each of kv_heads serves as many of this rank's query heads. Else the rank
  /// has one key head for each query head, a shared one several times.
  bool is_even = true;

  /// rank in [0, size); InvalidArgument unless the heads divide as said above.
  HeadLayout(const AttentionHeads& heads, int64_t rank, int64_t size);

  /// Key heads of this rank, counted as it attends with them.
  int64_t num_kv_heads() const { return is_even ? kv_heads.size() : num_heads; }
};

/// This rank's key or value heads, as its HeadLayout says, from what the evenly
/// split (perhaps padded) key or value weight yields. One dispatcher op, which
/// reads the rank inside: a recorded graph is valid on every rank and at every
/// degree.
///
/// y       [batch, seq, ceil(num_kv_heads * head_dim / P)]
/// Output  [batch, seq, HeadLayout::num_kv_heads(), head_dim], a view of `y`
///         where num_kv_heads divides over the ranks
/// Wire    none where it divides, else a gather; backward a reduce-scatter
/// Errors  InvalidArgument where `y` does not have that size, or heads do not
///         divide
/// Source  Ainslie et al. 2023 (arXiv 2305.13245), section 2.2
COLONNADE_API at::Tensor key_value_heads(const at::Tensor& y,
                                         const AttentionHeads& heads,
                                         const GroupPtr& group = nullptr);

}  // namespace colonnade::parallel_layers

// colonnade/models/head_layout.h
#pragma once

#include "colonnade/models/llama_options.h"

#include <cstdint>
#include <vector>

namespace colonnade {

/// Which heads one tensor-parallel rank attends with.
///
/// Query heads are split evenly. Where the key heads divide too, a rank holds
/// just those that its query heads use. Else the rows of the key and value
/// weights are split evenly all the same, their outputs are gathered, and each
/// rank takes its key heads from the whole: no weight is on two ranks, and the
/// gather's backward adds the gradients up.
struct HeadLayout {
  int64_t num_heads = 0;  ///< Query heads of this rank.
  bool gather_kv = false;
  /// This rank's key heads, counted in what its (gathered) key product yields.
  /// Each serves num_heads / kv_heads.size() consecutive query heads.
  std::vector<int64_t> kv_heads;

  /// `options` resolved; rank in [0, size).
  HeadLayout(const LlamaOptions& options, int64_t rank, int64_t size);
};

}  // namespace colonnade

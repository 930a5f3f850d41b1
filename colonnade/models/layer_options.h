// colonnade/models/layer_options.h
#pragma once

#include "colonnade/models/llama_options.h"
#include "colonnade/parallel_layers/column_parallel_linear.h"
#include "colonnade/parallel_layers/head_layout.h"
#include "colonnade/parallel_layers/parallel_embedding.h"
#include "colonnade/parallel_layers/row_parallel_linear.h"

#include <cstdint>

namespace colonnade {

// How a Llama makes its parallel layers: no biases, weights normal with
// init_std, sizes that do not divide padded, the sequence (dim 1) split where
// sequence-parallel.

/// The output stays split. Its input is whole: see enter_parallel_region.
parallel_layers::ColumnParallelLinearOptions column_options(
    const LlamaOptions& options, int64_t input_size, int64_t output_size);

parallel_layers::RowParallelLinearOptions row_options(
    const LlamaOptions& options, int64_t input_size, int64_t output_size);

parallel_layers::ParallelEmbeddingOptions embedding_options(
    const LlamaOptions& options);

/// Over all ranks; `options` resolved.
parallel_layers::AttentionHeads attention_heads(const LlamaOptions& options);

}  // namespace colonnade

// colonnade/parallel_layers/from_dense.h
#pragma once

#include "colonnade/core/api.h"
#include "colonnade/parallel_layers/column_parallel_linear.h"
#include "colonnade/parallel_layers/parallel_embedding.h"
#include "colonnade/parallel_layers/row_parallel_linear.h"

#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>

namespace colonnade::parallel_layers {

// Each makes the parallel form of an unsharded module, with this rank's part of
// its weights. `options` gives what the dense module does not know; its sizes,
// bias, dtype and device are the dense module's. No communication, no draw.

COLONNADE_API ColumnParallelLinear
column_from_dense(const torch::nn::Linear& dense,
                  ColumnParallelLinearOptions options = {0, 0});

COLONNADE_API RowParallelLinear row_from_dense(
    const torch::nn::Linear& dense, RowParallelLinearOptions options = {0, 0});

COLONNADE_API ParallelEmbedding
embedding_from_dense(const torch::nn::Embedding& dense,
                     ParallelEmbeddingOptions options = {0, 0});

}  // namespace colonnade::parallel_layers

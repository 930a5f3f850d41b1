// colonnade/parallel_layers/from_dense.h
#pragma once

#include "colonnade/core/api.h"
#include "colonnade/parallel_layers/column_parallel_linear.h"
#include "colonnade/parallel_layers/parallel_embedding.h"
#include "colonnade/parallel_layers/row_parallel_linear.h"

#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>

namespace colonnade::parallel_layers {

/// The module of torch::nn that `Layer` is the parallel form of, and `Layer`'s
/// options.
template <typename Layer>
struct DenseForm;

template <>
struct DenseForm<ColumnParallelLinear> {
  using Module = torch::nn::Linear;
  using Options = ColumnParallelLinearOptions;
};
template <>
struct DenseForm<RowParallelLinear> {
  using Module = torch::nn::Linear;
  using Options = RowParallelLinearOptions;
};
template <>
struct DenseForm<ParallelEmbedding> {
  using Module = torch::nn::Embedding;
  using Options = ParallelEmbeddingOptions;
};

/// The parallel form of an unsharded module, with this rank's part of its
/// weights: `from_dense<RowParallelLinear>(linear)`. No communication, no draw.
///
/// options  what the dense module does not know; its sizes, bias, padding_idx,
///          dtype and device are the dense module's
/// Errors   those of Layer's constructor; InvalidArgument where an embedding
///          has a max_norm, scale_grad_by_freq or sparse gradients, which
///          Layer has not
template <typename Layer>
Layer from_dense(const typename DenseForm<Layer>::Module& dense,
                 typename DenseForm<Layer>::Options options = {0, 0});

template <>
COLONNADE_API ColumnParallelLinear from_dense<ColumnParallelLinear>(
    const torch::nn::Linear& dense, ColumnParallelLinearOptions options);
template <>
COLONNADE_API RowParallelLinear from_dense<RowParallelLinear>(
    const torch::nn::Linear& dense, RowParallelLinearOptions options);
template <>
COLONNADE_API ParallelEmbedding from_dense<ParallelEmbedding>(
    const torch::nn::Embedding& dense, ParallelEmbeddingOptions options);

}  // namespace colonnade::parallel_layers

// colonnade/parallel_layers/from_dense.cpp
#include "colonnade/parallel_layers/from_dense.h"

#include "colonnade/core/error.h"
#include "colonnade/parallel_layers/detail/no_init.h"
#include "colonnade/sharding/split_join.h"

#include <ATen/core/grad_mode.h>

#include <utility>

namespace colonnade::parallel_layers {
namespace {

/// `to` becomes this rank's part of `from`, whether split or replicated.
void fill(at::Tensor& to, const at::Tensor& from) {
  if (to.defined() && !to.is_meta()) {
    const at::NoGradGuard no_grad;
    split_parameter(to, from);
  }
  if (to.defined()) {
    to.requires_grad_(from.requires_grad());
  }
}

template <typename Layer, typename Options>
Layer linear_from_dense(const torch::nn::Linear& dense, Options options) {
  options.input_size(dense->weight.size(1))
      .output_size(dense->weight.size(0))
      .bias(dense->bias.defined())
      .dtype(dense->weight.scalar_type())
      .device(dense->weight.device());
  const detail::NoInitScope no_init;
  Layer layer(std::move(options));
  fill(layer->weight, dense->weight);
  fill(layer->bias, dense->bias);
  layer->train(dense->is_training());
  return layer;
}

}  // namespace

template <>
ColumnParallelLinear from_dense<ColumnParallelLinear>(
    const torch::nn::Linear& dense, ColumnParallelLinearOptions options) {
  return linear_from_dense<ColumnParallelLinear>(dense, std::move(options));
}

template <>
RowParallelLinear from_dense<RowParallelLinear>(
    const torch::nn::Linear& dense, RowParallelLinearOptions options) {
  return linear_from_dense<RowParallelLinear>(dense, std::move(options));
}

template <>
ParallelEmbedding from_dense<ParallelEmbedding>(
    const torch::nn::Embedding& dense, ParallelEmbeddingOptions options) {
  check_arg(!dense->options.max_norm() &&
                !dense->options.scale_grad_by_freq() &&
                !dense->options.sparse(),
            "from_dense: a ParallelEmbedding has no max_norm, "
            "scale_grad_by_freq or sparse gradients, and the embedding sets "
            "one of them");
  options.num_embeddings(dense->weight.size(0))
      .embedding_dim(dense->weight.size(1))
      .padding_idx(dense->options.padding_idx())
      .dtype(dense->weight.scalar_type())
      .device(dense->weight.device());
  const detail::NoInitScope no_init;
  ParallelEmbedding layer(std::move(options));
  fill(layer->weight, dense->weight);
  layer->train(dense->is_training());
  return layer;
}

}  // namespace colonnade::parallel_layers

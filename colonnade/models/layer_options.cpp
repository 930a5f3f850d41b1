// colonnade/models/layer_options.cpp
#include "colonnade/models/layer_options.h"

#include <torch/nn/init.h>

namespace colonnade {
namespace {

parallel_layers::InitMethod normal(double std) {
  return [std](at::Tensor& whole) {
    torch::nn::init::normal_(whole, /*mean=*/0.0, std);
  };
}

}  // namespace

parallel_layers::ColumnParallelLinearOptions column_options(
    const LlamaOptions& options, int64_t input_size, int64_t output_size) {
  return parallel_layers::ColumnParallelLinearOptions(input_size, output_size)
      .bias(false)
      .gather_output(false)
      .pad(true)
      .dtype(options.dtype())
      .device(options.device())
      .init_method(normal(options.init_std()));
}

parallel_layers::RowParallelLinearOptions row_options(
    const LlamaOptions& options, int64_t input_size, int64_t output_size) {
  return parallel_layers::RowParallelLinearOptions(input_size, output_size)
      .bias(false)
      .input_is_parallel(true)
      .pad(true)
      .sequence_parallel_enabled(options.sequence_parallel())
      .sequence_dimension(1)
      .dtype(options.dtype())
      .device(options.device())
      .init_method(normal(options.init_std()));
}

parallel_layers::ParallelEmbeddingOptions embedding_options(
    const LlamaOptions& options) {
  return parallel_layers::ParallelEmbeddingOptions(options.vocab_size(),
                                                   options.hidden_size())
      .sequence_parallel_enabled(options.sequence_parallel())
      .sequence_dimension(1)
      .dtype(options.dtype())
      .device(options.device())
      .init_method(normal(options.init_std()));
}

parallel_layers::AttentionHeads attention_heads(const LlamaOptions& options) {
  return {.num_heads = options.num_heads(),
          .num_kv_heads = options.num_kv_heads(),
          .head_dim = options.head_dim()};
}

}  // namespace colonnade

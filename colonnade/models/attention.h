// colonnade/models/attention.h
#pragma once

#include "colonnade/models/kv_cache.h"
#include "colonnade/models/llama_options.h"
#include "colonnade/models/rotary_embedding.h"
#include "colonnade/parallel_layers/column_parallel_linear.h"
#include "colonnade/parallel_layers/head_layout.h"
#include "colonnade/parallel_layers/row_parallel_linear.h"

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <cstdint>

namespace colonnade {

/// Causal self-attention whose query heads are split over P ranks; key heads
/// are split or shared as parallel_layers::HeadLayout says.
///
/// Input   [batch, seq, hidden], or this rank's part of seq if
///         sequence-parallel; whole seq with a cache
/// Output  as the input
/// Wire    forward an all-reduce (a gather and a reduce-scatter if
///         sequence-parallel), backward the same; gathers of keys and values
///         where num_kv_heads does not divide over the ranks
/// Source  Shoeybi et al. 2019 (arXiv 1909.08053), section 3;
///         Ainslie et al. 2023 (arXiv 2305.13245) for the shared key heads
class AttentionImpl : public torch::nn::Module {
 public:
  /// `layer`: which place of a cache is this layer's.
  AttentionImpl(const LlamaOptions& options, int64_t layer);
  at::Tensor forward(const at::Tensor& x, const Rotation& rotation,
                     const KvCache& cache = nullptr);

  bool sequence_parallel;
  parallel_layers::ColumnParallelLinear q_proj, k_proj, v_proj;
  parallel_layers::RowParallelLinear o_proj;

 private:
  at::Tensor project_kv(const at::Tensor& x, const at::Tensor& weight) const;
  at::Tensor attend(const at::Tensor& q, const at::Tensor& k,
                    const at::Tensor& v, const KvCache& cache) const;

  int64_t layer_;
  parallel_layers::AttentionHeads heads_;
};
TORCH_MODULE(Attention);

}  // namespace colonnade

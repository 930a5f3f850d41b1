// colonnade/models/llama.h
#pragma once

#include "colonnade/models/kv_cache.h"
#include "colonnade/models/llama_block.h"
#include "colonnade/models/llama_options.h"
#include "colonnade/models/rms_norm.h"
#include "colonnade/models/rotary_embedding.h"
#include "colonnade/parallel_layers/column_parallel_linear.h"
#include "colonnade/parallel_layers/parallel_embedding.h"

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <cstdint>
#include <vector>

namespace colonnade {

/// The Llama without its head: embedding, blocks, final norm.
class LlamaModelImpl : public torch::nn::Module {
 public:
  explicit LlamaModelImpl(const LlamaOptions& options);

  /// ids     [batch, seq], equal on every rank
  /// Output  [batch, seq, hidden], or this rank's part of seq if
  ///         sequence-parallel
  at::Tensor forward(const at::Tensor& ids, const KvCache& cache = nullptr);
  void set_sequence_parallel(bool enabled);

  parallel_layers::ParallelEmbedding embed_tokens;
  std::vector<LlamaBlock> layers;
  RmsNorm norm;

 private:
  RotaryEmbedding rotary_;
};
TORCH_MODULE(LlamaModel);

/// A Llama language model, split over the current tensor-parallel group.
///
/// Its parameters have the names of Hugging Face's Llama
/// (model.layers.0.self_attn.q_proj.weight). A tied head has no parameter of
/// its own. From one seed it starts equal at every tensor-parallel degree.
///
/// Errors  InvalidArgument, before anything is built, where the options make no
///         model on this number of ranks, such as num_heads that do not divide
/// Source  Touvron et al. 2023 (arXiv 2302.13971)
class LlamaImpl : public torch::nn::Module {
 public:
  explicit LlamaImpl(const LlamaOptions& options);

  /// The whole logits.
  ///
  /// ids     [batch, seq], integers, equal on every rank
  /// Output  [batch, seq, vocab_size], equal on every rank
  /// Errors  InvalidArgument where seq is more than max_positions or, if
  ///         sequence-parallel, does not divide over the ranks
  at::Tensor forward(const at::Tensor& ids);

  /// As forward, for ids that follow the positions in `cache`, which then holds
  /// them too. Takes no gradients; InvalidArgument if sequence-parallel.
  at::Tensor logits(const at::Tensor& ids, KvCache& cache);

  /// The logits after the last of `ids`, [batch, vocab_size], as above.
  at::Tensor next_logits(const at::Tensor& ids, KvCache& cache);

  /// The mean cross entropy of the targets, a scalar equal on every rank. The
  /// vocabulary is never gathered.
  ///
  /// ids      [batch, seq], equal on every rank
  /// targets  [batch, seq], what follows each id; -100 is left out of the mean
  at::Tensor loss(const at::Tensor& ids, const at::Tensor& targets);

  /// Turns sequence parallelism on or off; weights do not depend on it.
  void set_sequence_parallel(bool enabled);

  const LlamaOptions& options() const { return options_; }

  LlamaModel model{nullptr};
  parallel_layers::ColumnParallelLinear lm_head{nullptr};  ///< Null if tied.

 private:
  void check_ids(const at::Tensor& ids) const;
  at::Tensor local_logits(const at::Tensor& hidden) const;
  at::Tensor whole_logits(const at::Tensor& hidden) const;
  at::Tensor cached_hidden(const at::Tensor& ids, KvCache& cache);

  LlamaOptions options_;  // resolved
};
TORCH_MODULE(Llama);

}  // namespace colonnade

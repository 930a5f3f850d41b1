// colonnade/models/llama_block.h
#pragma once

#include "colonnade/models/attention.h"
#include "colonnade/models/kv_cache.h"
#include "colonnade/models/llama_mlp.h"
#include "colonnade/models/llama_options.h"
#include "colonnade/models/rms_norm.h"
#include "colonnade/models/rotary_embedding.h"

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <cstdint>

namespace colonnade {

/// One layer: attention, then the MLP, each on normed input and added to it.
///
/// Input, output  [batch, seq, hidden], or this rank's part of seq if
///                sequence-parallel
class LlamaBlockImpl : public torch::nn::Module {
 public:
  LlamaBlockImpl(const LlamaOptions& options, int64_t layer);
  at::Tensor forward(const at::Tensor& x, const Rotation& rotation,
                     const KvCache& cache = nullptr);
  void set_sequence_parallel(bool enabled);

  Attention self_attn;
  LlamaMlp mlp;
  RmsNorm input_layernorm, post_attention_layernorm;
};
TORCH_MODULE(LlamaBlock);

}  // namespace colonnade

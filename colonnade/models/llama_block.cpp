// colonnade/models/llama_block.cpp
#include "colonnade/models/llama_block.h"

namespace colonnade {

LlamaBlockImpl::LlamaBlockImpl(const LlamaOptions& options, int64_t layer)
    : self_attn(options, layer),
      mlp(options),
      input_layernorm(options),
      post_attention_layernorm(options) {
  register_module("self_attn", self_attn);
  register_module("mlp", mlp);
  register_module("input_layernorm", input_layernorm);
  register_module("post_attention_layernorm", post_attention_layernorm);
}

at::Tensor LlamaBlockImpl::forward(const at::Tensor& x,
                                   const Rotation& rotation,
                                   const KvCache& cache) {
  const at::Tensor y = x + self_attn(input_layernorm(x), rotation, cache);
  return y + mlp(post_attention_layernorm(y));
}

void LlamaBlockImpl::set_sequence_parallel(bool enabled) {
  self_attn->sequence_parallel = enabled;
  self_attn->o_proj->options.sequence_parallel_enabled(enabled);
  mlp->sequence_parallel = enabled;
  mlp->down_proj->options.sequence_parallel_enabled(enabled);
  input_layernorm->sequence_parallel = enabled;
  post_attention_layernorm->sequence_parallel = enabled;
}

}  // namespace colonnade

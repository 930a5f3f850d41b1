// colonnade/models/cached_llama.h
#pragma once

#include "colonnade/models/kv_cache.h"
#include "colonnade/models/llama.h"

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <cstdint>

namespace colonnade {

/// A Llama with a cache of its own, as one module of one tensor in and one out:
/// what is traced to decode token by token.
///
/// Its parameters are those of the Llama, under the same names (`llama` itself
/// is no child): load a Llama's checkpoint into `llama`, before or after. The
/// cache's buffers are cache.keys_0, cache.values_0 … and cache.length; only
/// they change in a call.
class CachedLlamaImpl : public torch::nn::Module {
 public:
  /// Shares the weights of `model`; see KvCache for what is refused.
  CachedLlamaImpl(Llama model, int64_t batch, int64_t max_length);
  /// A new Llama.
  CachedLlamaImpl(const LlamaOptions& options, int64_t batch,
                  int64_t max_length);

  /// The logits after the last of `ids`, which follow what the cache holds and
  /// are then in it. Takes no gradients.
  ///
  /// ids     [batch, seq], equal on every rank
  /// Output  [batch, vocab_size], equal on every rank
  /// Errors  InvalidArgument where they do not fit the cache, or the model is
  ///         sequence-parallel
  at::Tensor forward(const at::Tensor& ids);

  Llama llama;
  KvCache cache;
};
TORCH_MODULE(CachedLlama);

}  // namespace colonnade

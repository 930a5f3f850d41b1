// colonnade/models/cached_llama.cpp
#include "colonnade/models/cached_llama.h"

#include <utility>

namespace colonnade {

CachedLlamaImpl::CachedLlamaImpl(Llama model, int64_t batch, int64_t max_length)
    : llama(std::move(model)), cache(llama->options(), batch, max_length) {
  for (const auto& child : llama->named_children()) {
    register_module(child.key(), child.value());
  }
  register_module("cache", cache);
}

CachedLlamaImpl::CachedLlamaImpl(const LlamaOptions& options, int64_t batch,
                                 int64_t max_length)
    : CachedLlamaImpl(Llama(options), batch, max_length) {}

at::Tensor CachedLlamaImpl::forward(const at::Tensor& ids) {
  return llama->next_logits(ids, cache);
}

}  // namespace colonnade

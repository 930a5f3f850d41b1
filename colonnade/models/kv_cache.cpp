// colonnade/models/kv_cache.cpp
#include "colonnade/models/kv_cache.h"

#include "colonnade/core/error.h"
#include "colonnade/models/layer_options.h"
#include "colonnade/parallel_layers/cached_attention.h"
#include "colonnade/parallel_layers/head_layout.h"
#include "colonnade/parallel_state/parallel_state.h"
#include "colonnade/sharding/attributes.h"

#include <ATen/ops/zeros.h>

#include <optional>
#include <string_view>

namespace colonnade {
namespace {

/// Of a cache [batch, kv heads, …]; empty where the rank has a head twice.
std::optional<ShardSpec> heads_spec(const parallel_layers::HeadLayout& layout,
                                    int64_t whole) {
  if (!layout.is_even) {
    return std::nullopt;
  }
  return ShardSpec{.dim = 1,
                   .whole_size = whole,
                   .ranges = {layout.kv_heads},
                   .local_size = layout.num_kv_heads()};
}

}  // namespace

KvCacheImpl::KvCacheImpl(const LlamaOptions& options, int64_t batch,
                         int64_t max_length) {
  const GroupPtr group = parallel_state::get_tensor_model_parallel_group();
  const LlamaOptions resolved = options.resolved(group->size());
  check_arg(batch > 0 && max_length > 0, "KvCache: batch ", batch,
            " and max_length ", max_length, " must be positive");
  check_arg(max_length <= resolved.max_positions(), "KvCache: max_length ",
            max_length, " is more than the model's max_positions ",
            resolved.max_positions());
  const parallel_layers::HeadLayout layout(attention_heads(resolved),
                                           group->rank(), group->size());
  const auto spec = heads_spec(layout, resolved.num_kv_heads());
  const auto make = [&](std::string_view kind, int64_t layer) {
    const at::Tensor memory = at::zeros(
        {batch, layout.num_kv_heads(), max_length, resolved.head_dim()},
        at::TensorOptions().dtype(resolved.dtype()).device(resolved.device()));
    if (spec) {
      set_tensor_parallel_attributes(memory, {*spec, group->name()});
    }
    return register_buffer(concat(kind, "_", layer), memory);
  };
  for (int64_t layer = 0; layer < resolved.num_layers(); ++layer) {
    layers_.push_back({make("keys", layer), make("values", layer)});
  }
  length_ = register_buffer("length", at::zeros({}, at::kLong));
}

int64_t KvCacheImpl::length() const {
  return length_.item<int64_t>();
}

at::Tensor KvCacheImpl::positions(const at::Tensor& ids) const {
  return parallel_layers::cache_positions(length_, ids, layers_[0].keys);
}

at::Tensor KvCacheImpl::attend(int64_t layer, const at::Tensor& q,
                               const at::Tensor& k, const at::Tensor& v) const {
  const KeysAndValues& cache = layers_.at(layer);
  return parallel_layers::cached_attention(q, k, v, cache.keys, cache.values,
                                           length_);
}

}  // namespace colonnade

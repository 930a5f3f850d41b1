// colonnade/models/attention.cpp
#include "colonnade/models/attention.h"

#include "colonnade/models/layer_options.h"
#include "colonnade/models/parallel_region.h"
#include "colonnade/parallel_layers/functional.h"

#include <ATen/ops/scaled_dot_product_attention.h>

#include <optional>

namespace colonnade {

using at::Tensor;
namespace functional = parallel_layers::functional;

AttentionImpl::AttentionImpl(const LlamaOptions& options, int64_t layer)
    : sequence_parallel(options.sequence_parallel()),
      q_proj(column_options(options, options.hidden_size(),
                            options.num_heads() * options.head_dim())),
      k_proj(column_options(options, options.hidden_size(),
                            options.num_kv_heads() * options.head_dim())),
      v_proj(column_options(options, options.hidden_size(),
                            options.num_kv_heads() * options.head_dim())),
      o_proj(row_options(options, options.num_heads() * options.head_dim(),
                         options.hidden_size())),
      layer_(layer),
      heads_(attention_heads(options)) {
  register_module("q_proj", q_proj);
  register_module("k_proj", k_proj);
  register_module("v_proj", v_proj);
  register_module("o_proj", o_proj);
}

/// Keys or values of this rank's key heads, [batch, seq, heads, head_dim].
Tensor AttentionImpl::project_kv(const Tensor& x, const Tensor& weight) const {
  return parallel_layers::key_value_heads(functional::linear(x, weight),
                                          heads_);
}

/// q [batch, heads, seq, head_dim]; output as q.
Tensor AttentionImpl::attend(const Tensor& q, const Tensor& k, const Tensor& v,
                             const KvCache& cache) const {
  if (cache) {
    return cache->attend(layer_, q, k, v);
  }
  return at::scaled_dot_product_attention(
      q, k, v, /*attn_mask=*/std::nullopt, /*dropout_p=*/0.0,
      /*is_causal=*/true, /*scale=*/std::nullopt,
      /*enable_gqa=*/heads_.num_kv_heads != heads_.num_heads);
}

Tensor AttentionImpl::forward(const Tensor& x, const Rotation& rotation,
                              const KvCache& cache) {
  const Tensor whole = enter_parallel_region(x, sequence_parallel);
  const Tensor q = functional::linear(whole, q_proj->weight)
                       .unflatten(-1, {-1, heads_.head_dim});
  const Tensor k = project_kv(whole, k_proj->weight);
  const Tensor v = project_kv(whole, v_proj->weight);
  const Tensor y =
      attend(rotation(q).transpose(1, 2), rotation(k).transpose(1, 2),
             v.transpose(1, 2), cache);
  return o_proj(y.transpose(1, 2).flatten(2));
}

}  // namespace colonnade

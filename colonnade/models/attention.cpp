// colonnade/models/attention.cpp
#include "colonnade/models/attention.h"

#include "colonnade/models/layer_options.h"
#include "colonnade/models/parallel_region.h"
#include "colonnade/parallel_layers/functional.h"
#include "colonnade/parallel_layers/mappings.h"
#include "colonnade/parallel_state/parallel_state.h"

#include <ATen/ops/ones.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/tensor.h>

#include <optional>
#include <tuple>
#include <utility>

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
      head_dim_(options.head_dim()),
      num_kv_heads_(options.num_kv_heads()),
      heads_(options, parallel_state::get_tensor_model_parallel_rank(),
             parallel_state::get_tensor_model_parallel_size()) {
  register_module("q_proj", q_proj);
  register_module("k_proj", k_proj);
  register_module("v_proj", v_proj);
  register_module("o_proj", o_proj);
}

/// Keys or values of this rank's key heads, [batch, seq, heads, head_dim].
Tensor AttentionImpl::project_kv(const Tensor& x, const Tensor& weight) const {
  Tensor y = functional::linear(x, weight);
  if (!heads_.gather_kv) {
    return y.unflatten(-1, {-1, head_dim_});
  }
  y = parallel_layers::gather_from_sequence_parallel_region(
          y, /*sequence_dimension=*/-1, /*to_model_parallel=*/true)
          .narrow(-1, 0, num_kv_heads_ * head_dim_)  // without padding
          .unflatten(-1, {num_kv_heads_, head_dim_});
  const auto count = static_cast<int64_t>(heads_.kv_heads.size());
  const int64_t first = heads_.kv_heads.front();
  if (heads_.kv_heads.back() - first == count - 1) {
    return y.narrow(2, first, count);
  }
  return y.index_select(
      2, at::tensor(heads_.kv_heads, x.options().dtype(at::kLong)));
}

/// q [batch, heads, seq, head_dim]; output as q.
Tensor AttentionImpl::attend(const Tensor& q, Tensor k, Tensor v,
                             KvCache* cache) const {
  const int64_t past = cache == nullptr ? 0 : cache->length();
  if (cache != nullptr) {
    std::tie(k, v) = cache->append(layer_, k, v);
  }
  const int64_t seq = q.size(2);
  // One new position sees all others; several after a past need the lower
  // right corner of the causal mask, which is_causal does not mean.
  std::optional<Tensor> mask;
  if (past > 0 && seq > 1) {
    mask = at::ones({seq, past + seq}, q.options().dtype(at::kBool)).tril(past);
  }
  return at::scaled_dot_product_attention(
      q, k, v, mask, /*dropout_p=*/0.0,
      /*is_causal=*/past == 0 && seq > 1, /*scale=*/std::nullopt,
      /*enable_gqa=*/k.size(1) != q.size(1));
}

Tensor AttentionImpl::forward(const Tensor& x, const RotaryEmbedding& rotary,
                              KvCache* cache) {
  const int64_t position = cache == nullptr ? 0 : cache->length();
  const Tensor whole = enter_parallel_region(x, sequence_parallel);
  const Tensor q =
      functional::linear(whole, q_proj->weight).unflatten(-1, {-1, head_dim_});
  const Tensor k = project_kv(whole, k_proj->weight);
  const Tensor v = project_kv(whole, v_proj->weight);
  const Tensor y =
      attend(rotary(q, position).transpose(1, 2),
             rotary(k, position).transpose(1, 2), v.transpose(1, 2), cache);
  return o_proj(y.transpose(1, 2).flatten(2));
}

}  // namespace colonnade

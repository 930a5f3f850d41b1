// colonnade/parallel_layers/cached_attention.cpp
#include "colonnade/parallel_layers/cached_attention.h"

#include "colonnade/core/error.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <torch/csrc/autograd/VariableTypeUtils.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/library.h>

#include <cstdint>
#include <optional>

namespace colonnade::parallel_layers {
namespace {

using at::Tensor;
using c10::DispatchKeySet;

constexpr const char* kAttention = "cached_attention";
constexpr const char* kPositions = "cache_positions";

int64_t value_of(const Tensor& length, const char* subject) {
  check_arg(length.scalar_type() == at::kLong && length.numel() == 1, subject,
            ": the length is ", length.scalar_type(), " of shape ",
            length.sizes(), "; expected one Long");
  return length.is_cpu() ? *length.const_data_ptr<int64_t>()
                         : length.item<int64_t>();
}

/// keys  [batch, kv_heads, max_length, head_dim]
void check_fits(int64_t length, int64_t batch, int64_t seq,
                const Tensor& keys) {
  check_arg(batch == keys.size(0), "KvCache: ", batch,
            " sequences do not fit a cache made for ", keys.size(0),
            "; make one of that size");
  check_arg(length + seq <= keys.size(2), "KvCache: ", seq, " positions after ",
            length, " are more than max_length ", keys.size(2),
            "; make a longer cache or clear() it");
}

void check_shapes(const Tensor& q, const Tensor& k, const Tensor& v,
                  const Tensor& keys, const Tensor& values) {
  check_arg(q.dim() == 4 && k.dim() == 4 && keys.dim() == 4 &&
                v.sizes() == k.sizes() && values.sizes() == keys.sizes() &&
                q.size(0) == k.size(0) && q.size(2) == k.size(2) &&
                q.size(3) == k.size(3) && k.size(1) == keys.size(1) &&
                k.size(3) == keys.size(3) && k.size(1) > 0 &&
                q.size(1) % k.size(1) == 0,
            kAttention, ": a query of shape ", q.sizes(), ", a key of ",
            k.sizes(), ", a value of ", v.sizes(), " and caches of ",
            keys.sizes(), " and ", values.sizes(),
            " do not fit; expected [batch, heads, seq, head_dim], and "
            "[batch, kv_heads, max_length, head_dim] of the caches");
}

/// q [batch, heads, seq, head_dim]; k, v [batch, kv_heads, past + seq,
/// head_dim].
Tensor attend(const Tensor& q, const Tensor& k, const Tensor& v, int64_t past) {
  const int64_t seq = q.size(2);
  const int64_t heads = q.size(1);
  const int64_t kv_heads = k.size(1);
  if (seq == 1) {
    // One position sees all: the queries that share a key head are as so many
    // positions of it, and no head is copied.
    return at::scaled_dot_product_attention(
               q.reshape({q.size(0), kv_heads, heads / kv_heads, q.size(3)}), k,
               v)
        .reshape({q.size(0), heads, 1, q.size(3)});
  }
  // After a past it takes the lower right corner of the causal mask, which
  // is_causal does not mean.
  std::optional<Tensor> mask;
  if (past > 0) {
    mask = at::ones({seq, past + seq}, q.options().dtype(at::kBool)).tril(past);
  }
  return at::scaled_dot_product_attention(
      q, k, v, mask, /*dropout_p=*/0.0, /*is_causal=*/past == 0,
      /*scale=*/std::nullopt, /*enable_gqa=*/heads != kv_heads);
}

Tensor attention_kernel(const Tensor& q, const Tensor& k, const Tensor& v,
                        const Tensor& keys, const Tensor& values,
                        const Tensor& length) {
  check_shapes(q, k, v, keys, values);
  if (q.is_meta()) {
    return at::empty_like(q);
  }
  const int64_t past = value_of(length, kAttention);
  const int64_t seq = q.size(2);
  check_fits(past, q.size(0), seq, keys);
  keys.narrow(2, past, seq).copy_(k);
  values.narrow(2, past, seq).copy_(v);
  return attend(q, keys.narrow(2, 0, past + seq),
                values.narrow(2, 0, past + seq), past);
}

Tensor positions_kernel(const Tensor& length, const Tensor& ids,
                        const Tensor& keys) {
  check_arg(ids.dim() == 2 && keys.dim() == 4, kPositions, ": ids have shape ",
            ids.sizes(), ", the cache ", keys.sizes(),
            "; expected [batch, seq] and [batch, kv_heads, max_length, "
            "head_dim]");
  const int64_t past = ids.is_meta() ? 0 : value_of(length, kPositions);
  check_fits(past, ids.size(0), ids.size(1), keys);
  return at::arange(past, past + ids.size(1), ids.options().dtype(at::kLong));
}

const auto& attention_op() {
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("colonnade::cached_attention", "")
          .typed<decltype(attention_kernel)>();
  return op;
}

Tensor attention_autograd(DispatchKeySet keyset, const Tensor& q,
                          const Tensor& k, const Tensor& v, const Tensor& keys,
                          const Tensor& values, const Tensor& length) {
  check_arg(!torch::autograd::compute_requires_grad(q, k, v, keys, values),
            kAttention,
            ": a cache takes no gradients; call it under torch::NoGradGuard");
  const at::AutoDispatchBelowAutograd below;
  return attention_op().redispatch(keyset & c10::after_autograd_keyset, q, k, v,
                                   keys, values, length);
}

/// Tells autograd that the caches have changed.
Tensor attention_version(DispatchKeySet keyset, const Tensor& q,
                         const Tensor& k, const Tensor& v, const Tensor& keys,
                         const Tensor& values, const Tensor& length) {
  Tensor y = [&] {
    const at::AutoDispatchBelowADInplaceOrView below;
    return attention_op().redispatch(keyset & c10::after_ADInplaceOrView_keyset,
                                     q, k, v, keys, values, length);
  }();
  torch::autograd::increment_version(keys);
  torch::autograd::increment_version(values);
  return y;
}

TORCH_LIBRARY_FRAGMENT(colonnade, m) {
  m.def(
      "cached_attention(Tensor q, Tensor k, Tensor v, Tensor(a!) keys,"
      " Tensor(b!) values, Tensor length) -> Tensor");
  m.def("cache_positions(Tensor length, Tensor ids, Tensor keys) -> Tensor");
}

TORCH_LIBRARY_IMPL(colonnade, CompositeExplicitAutograd, m) {
  m.impl(kAttention, &attention_kernel);
  m.impl(kPositions, &positions_kernel);
}

TORCH_LIBRARY_IMPL(colonnade, ADInplaceOrView, m) {
  m.impl(kAttention, &attention_version);
}

TORCH_LIBRARY_IMPL(colonnade, Autograd, m) {
  m.impl(kAttention, &attention_autograd);
}

}  // namespace

Tensor cache_positions(const Tensor& length, const Tensor& ids,
                       const Tensor& keys) {
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("colonnade::cache_positions", "")
          .typed<decltype(positions_kernel)>();
  return op.call(length, ids, keys);
}

Tensor cached_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                        const Tensor& keys, const Tensor& values,
                        const Tensor& length) {
  return attention_op().call(q, k, v, keys, values, length);
}

}  // namespace colonnade::parallel_layers

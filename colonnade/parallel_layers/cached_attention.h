// colonnade/parallel_layers/cached_attention.h
#pragma once

#include "colonnade/core/api.h"

#include <ATen/core/Tensor.h>

namespace colonnade::parallel_layers {

// Attention to positions of earlier calls. How many there are is a tensor that
// is read inside dispatcher ops, so that one recorded graph goes on from any
// length. `length` is one int64 (on the CPU, or its reading waits for the
// device) that holds for a whole forward pass: after it, its caller adds seq in
// place.

/// Where in a cache `ids` come, so also whether they fit: called before
/// anything is computed of them.
///
/// ids     [batch, seq]
/// keys    [batch, kv_heads, max_length, head_dim], a layer's
/// Output  [seq], int64, from `length` on, on the device of `ids`
/// Errors  InvalidArgument where the batch is another, or length + seq is more
///         than max_length
COLONNADE_API at::Tensor cache_positions(const at::Tensor& length,
                                         const at::Tensor& ids,
                                         const at::Tensor& keys);

/// Writes new positions into a layer's cache, and attends causally to all up to
/// them.
///
/// q             [batch, heads, seq, head_dim]
/// k, v          [batch, kv_heads, seq, head_dim]; kv_heads divides heads
/// keys, values  [batch, kv_heads, max_length, head_dim], written in place
/// Output        as q
/// Cost          where seq is 1, no copy of what the cache holds
/// Errors        InvalidArgument as cache_positions, where shapes do not fit,
///               and where gradients are taken: the cache has none
COLONNADE_API at::Tensor cached_attention(
    const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
    const at::Tensor& keys, const at::Tensor& values, const at::Tensor& length);

}  // namespace colonnade::parallel_layers

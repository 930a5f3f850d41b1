// colonnade/models/kv_cache.h
#pragma once

#include "colonnade/models/llama_options.h"

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <cstdint>
#include <vector>

namespace colonnade {

/// Keys and values of the positions that a Llama has seen, so that the next
/// token costs one position. Preallocated, this rank's heads only.
///
/// Everything that changes is in buffers, the length too: keys_0, values_0 …
/// [batch, kv heads, max_length, head_dim], and length, a scalar int64 on the
/// CPU. Keys and values have attributes as shards of all key heads (a head that
/// several ranks use is a range of each), but none where a rank has a head
/// twice: see parallel_layers::HeadLayout.
///
/// Memory  2 * num_layers * batch * kv heads of this rank * max_length *
///         head_dim elements
/// Errors  InvalidArgument where batch or max_length is not positive, or
///         max_length more than max_positions
class KvCacheImpl : public torch::nn::Module {
 public:
  /// For a Llama of these options, on the current tensor-parallel group.
  KvCacheImpl(const LlamaOptions& options, int64_t batch, int64_t max_length);

  int64_t length() const;  ///< Positions held.
  int64_t max_length() const { return layers_[0].keys.size(2); }
  /// Forgets all positions; the memory stays.
  void clear() { length_.zero_(); }

  // What a Llama calls in a forward pass. None lets the length leave as a
  // number, so that a recorded graph is valid at any.

  /// Where `ids` [batch, seq] come, [seq]; InvalidArgument unless they fit.
  at::Tensor positions(const at::Tensor& ids) const;
  /// Keeps a layer's next positions, and attends to all up to them.
  ///
  /// q, output  [batch, heads, seq, head_dim]
  /// k, v       [batch, kv heads, seq, head_dim]
  at::Tensor attend(int64_t layer, const at::Tensor& q, const at::Tensor& k,
                    const at::Tensor& v) const;
  /// Counts `seq` positions as held, after every layer has them.
  void advance(int64_t seq) { length_.add_(seq); }

 private:
  struct KeysAndValues {
    at::Tensor keys, values;
  };

  std::vector<KeysAndValues> layers_;
  at::Tensor length_;
};
TORCH_MODULE(KvCache);

}  // namespace colonnade

// colonnade/models/kv_cache.h
#pragma once

#include "colonnade/models/llama_options.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <utility>
#include <vector>

namespace colonnade {

/// Keys and values of the positions that a Llama has seen, so that the next
/// token costs one position. Preallocated, this rank's heads only.
///
/// Memory  2 * num_layers * batch * kv heads of this rank * max_length *
///         head_dim elements
class KvCache {
 public:
  using KeysAndValues = std::pair<at::Tensor, at::Tensor>;

  /// For a Llama of these options, on the current tensor-parallel group.
  KvCache(const LlamaOptions& options, int64_t batch, int64_t max_length);

  int64_t batch() const { return batch_; }
  int64_t length() const { return length_; }  ///< Positions held.
  int64_t max_length() const { return max_length_; }
  /// Forgets all positions; the memory stays.
  void clear() { length_ = 0; }

  /// InvalidArgument unless `seq` more positions of `batch` sequences fit.
  void check_fits(int64_t batch, int64_t seq) const;

  /// Writes a layer's next positions and returns all up to them.
  ///
  /// keys, values  [batch, heads, seq, head_dim]
  /// Output        [batch, heads, length() + seq, head_dim], views
  KeysAndValues append(int64_t layer, const at::Tensor& keys,
                       const at::Tensor& values);

  /// Counts `seq` positions as held, after every layer has appended them.
  void advance(int64_t seq) { length_ += seq; }

 private:
  int64_t batch_;
  int64_t max_length_;
  int64_t length_ = 0;
  std::vector<KeysAndValues> layers_;  // [batch, heads, max_length, head_dim]
};

}  // namespace colonnade

// colonnade/models/rotary_embedding.h
#pragma once

#include "colonnade/models/llama_options.h"

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace colonnade {

/// Turns the pairs (x[i], x[i + head_dim / 2]) of each head by an angle of
/// position * theta^(-2 i / head_dim): the layout of Hugging Face's Llama.
///
/// Source  Su et al. 2021 (arXiv 2104.09864)
class RotaryEmbedding {
 public:
  /// Tables for all of max_positions: 4 * max_positions * head_dim bytes.
  explicit RotaryEmbedding(const LlamaOptions& options);

  /// Moves the tables; nothing where they are there, or `device` is meta.
  void move_to(at::Device device);

  /// x         [batch, seq, heads, head_dim]
  /// position  of the first of the sequence
  /// Output    as x
  at::Tensor operator()(const at::Tensor& x, int64_t position) const;

 private:
  at::Tensor cos_, sin_;  // [max_positions, head_dim / 2], fp32 or fp64
};

}  // namespace colonnade

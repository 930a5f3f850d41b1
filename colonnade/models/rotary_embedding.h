// colonnade/models/rotary_embedding.h
#pragma once

#include "colonnade/models/llama_options.h"

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace colonnade {

/// Turns the pairs (x[i], x[i + head_dim / 2]) of each head by the angles of
/// some positions. Looked up once a forward pass, for all layers.
struct Rotation {
  at::Tensor cos, sin;  ///< [seq, 1, head_dim / 2], fp32 or fp64.

  /// x, output  [batch, seq, heads, head_dim]
  at::Tensor operator()(const at::Tensor& x) const;
};

/// The rotations of all positions, by position * theta^(-2 i / head_dim) each:
/// the layout of Hugging Face's Llama.
///
/// Source  Su et al. 2021 (arXiv 2104.09864)
class RotaryEmbedding {
 public:
  /// Tables for all of max_positions: 4 * max_positions * head_dim bytes.
  explicit RotaryEmbedding(const LlamaOptions& options);

  /// Moves the tables; nothing where they are there, or `device` is meta.
  void move_to(at::Device device);

  /// For a sequence from position 0 on: views.
  Rotation first(int64_t seq) const;
  /// For these positions, [seq], on the tables' device.
  Rotation at(const at::Tensor& positions) const;

 private:
  at::Tensor cos_, sin_;  // [max_positions, 1, head_dim / 2], fp32 or fp64
};

}  // namespace colonnade

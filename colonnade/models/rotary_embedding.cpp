// colonnade/models/rotary_embedding.cpp
#include "colonnade/models/rotary_embedding.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/pow.h>

namespace colonnade {

using at::Tensor;

namespace {

/// x [batch, seq, heads, head_dim]; cos, sin [seq, head_dim / 2].
Tensor rotate(const Tensor& x, const Tensor& cos, const Tensor& sin) {
  const int64_t half = x.size(-1) / 2;
  const Tensor a = x.narrow(-1, 0, half);
  const Tensor b = x.narrow(-1, half, half);
  const Tensor c = cos.unsqueeze(1);
  const Tensor s = sin.unsqueeze(1);
  return at::cat({a * c - b * s, b * c + a * s}, -1).to(x.scalar_type());
}

}  // namespace

RotaryEmbedding::RotaryEmbedding(const LlamaOptions& options) {
  const auto wide = at::TensorOptions().dtype(at::kDouble);
  const int64_t half = options.head_dim() / 2;
  const Tensor speed =
      at::pow(options.rope_theta(), at::arange(half, wide) * (-1.0 / half));
  const Tensor angle =
      at::outer(at::arange(options.max_positions(), wide), speed);
  const auto table =
      at::TensorOptions()
          .dtype(options.dtype() == at::kDouble ? at::kDouble : at::kFloat)
          .device(options.device());
  cos_ = angle.cos().to(table);
  sin_ = angle.sin().to(table);
}

Tensor RotaryEmbedding::operator()(const Tensor& x, int64_t position) const {
  const int64_t seq = x.size(1);
  return rotate(x, cos_.narrow(0, position, seq),
                sin_.narrow(0, position, seq));
}

}  // namespace colonnade

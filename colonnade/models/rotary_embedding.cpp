// colonnade/models/rotary_embedding.cpp
#include "colonnade/models/rotary_embedding.h"

#include "colonnade/models/detail/row_kernels.h"
#include "colonnade/models/detail/row_op.h"

#include <ATen/Dispatch.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/pow.h>
#include <torch/csrc/autograd/custom_function.h>

namespace colonnade {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

/// Its own backward, turned back: linear, so second derivatives are right too.
struct RotateFunction : torch::autograd::Function<RotateFunction> {
  static Tensor forward(AutogradContext* ctx, const Tensor& input,
                        const Tensor& cos, const Tensor& sin, bool back) {
    ctx->save_for_backward({cos, sin});
    ctx->saved_data["back"] = back;
    const Tensor x = input.contiguous();
    const Tensor y = at::empty_like(x);
    const detail::HeadsShape shape{x.size(0), x.size(1), x.size(2),
                                   x.size(3) / 2};
    AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "rotate", [&] {
      detail::rotate_pairs(
          shape, x.const_data_ptr<scalar_t>(), cos.const_data_ptr<scalar_t>(),
          sin.const_data_ptr<scalar_t>(), back, y.mutable_data_ptr<scalar_t>());
    });
    return y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    return {
        apply(grads[0], saved[0], saved[1], !ctx->saved_data["back"].toBool()),
        Tensor(), Tensor(), Tensor()};
  }
};

}  // namespace

Tensor Rotation::operator()(const Tensor& x) const {
  if (detail::use_row_kernels({x, cos})) {
    return RotateFunction::apply(x, cos, sin, /*back=*/false);
  }
  const int64_t half = x.size(-1) / 2;
  const Tensor a = x.narrow(-1, 0, half);
  const Tensor b = x.narrow(-1, half, half);
  return at::cat({a * cos - b * sin, b * cos + a * sin}, -1)
      .to(x.scalar_type());
}

RotaryEmbedding::RotaryEmbedding(const LlamaOptions& options) {
  const auto wide = at::TensorOptions().dtype(at::kDouble);
  const int64_t half = options.head_dim() / 2;
  const Tensor speed =
      at::pow(options.rope_theta(), at::arange(half, wide) * (-1.0 / half));
  const Tensor angle =
      at::outer(at::arange(options.max_positions(), wide), speed).unsqueeze(1);
  const at::ScalarType table =
      options.dtype() == at::kDouble ? at::kDouble : at::kFloat;
  cos_ = angle.cos().to(table);
  sin_ = angle.sin().to(table);
}

void RotaryEmbedding::move_to(at::Device device) {
  if (device != at::kMeta && device != cos_.device()) {
    cos_ = cos_.to(device);
    sin_ = sin_.to(device);
  }
}

Rotation RotaryEmbedding::first(int64_t seq) const {
  return {cos_.narrow(0, 0, seq), sin_.narrow(0, 0, seq)};
}

Rotation RotaryEmbedding::at(const Tensor& positions) const {
  return {cos_.index_select(0, positions), sin_.index_select(0, positions)};
}

}  // namespace colonnade

// colonnade/models/rms_norm.cpp
#include "colonnade/models/rms_norm.h"

#include "colonnade/models/detail/row_kernels.h"
#include "colonnade/models/detail/row_op.h"
#include "colonnade/parallel_layers/mappings.h"

#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/custom_function.h>

namespace colonnade {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

/// x / sqrt(mean(x^2) + eps), in torch's ops.
Tensor normalized(const Tensor& x, double eps) {
  return x * x.square().mean(-1, /*keepdim=*/true).add(eps).rsqrt();
}

detail::Rows rows_of(const Tensor& x) {
  return {x.numel() / x.size(-1), x.size(-1)};
}

struct RmsNormFunction : torch::autograd::Function<RmsNormFunction> {
  static Tensor forward(AutogradContext* ctx, const Tensor& input,
                        const Tensor& weight, double eps) {
    const Tensor x = input.contiguous();
    const Tensor y = at::empty_like(x);
    const Tensor scale = at::empty({rows_of(x).rows}, x.options());
    AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "rms_norm", [&] {
      detail::rms_norm_forward(rows_of(x), x.const_data_ptr<scalar_t>(),
                               weight.const_data_ptr<scalar_t>(), eps,
                               scale.mutable_data_ptr<scalar_t>(),
                               y.mutable_data_ptr<scalar_t>());
    });
    ctx->save_for_backward({input, weight, scale});
    ctx->saved_data["eps"] = eps;
    return y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const Tensor& weight = saved[1];
    if (at::GradMode::is_enabled()) {  // of torch's ops, to go on from
      return backward_of_ops(grads[0], saved[0], weight,
                             ctx->saved_data["eps"].toDouble());
    }
    const Tensor x = saved[0].contiguous();
    const Tensor grad = grads[0].contiguous();
    const Tensor grad_x = at::empty_like(x);
    const Tensor grad_weight = at::zeros_like(weight);
    AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "rms_norm_backward", [&] {
      detail::rms_norm_backward(rows_of(x), grad.const_data_ptr<scalar_t>(),
                                x.const_data_ptr<scalar_t>(),
                                weight.const_data_ptr<scalar_t>(),
                                saved[2].const_data_ptr<scalar_t>(),
                                grad_x.mutable_data_ptr<scalar_t>(),
                                grad_weight.mutable_data_ptr<scalar_t>());
    });
    return {grad_x, grad_weight, Tensor()};
  }

  static variable_list backward_of_ops(const Tensor& grad, const Tensor& x,
                                       const Tensor& weight, double eps) {
    const Tensor unit = normalized(x, eps);
    const Tensor scaled = grad * weight;
    const Tensor along = (scaled * unit).mean(-1, /*keepdim=*/true);
    const Tensor by = x.square().mean(-1, /*keepdim=*/true).add(eps).rsqrt();
    return {by * (scaled - unit * along),
            (grad * unit).sum_to_size(weight.sizes()), Tensor()};
  }
};

}  // namespace

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps) {
  if (detail::use_row_kernels({x, weight})) {
    return RmsNormFunction::apply(x, weight, eps);
  }
  const Tensor wide = x.to(at::toOpMathType(x.scalar_type()));
  return (normalized(wide, eps) * weight).to(x.scalar_type());
}

RmsNormImpl::RmsNormImpl(const LlamaOptions& options)
    : eps(options.norm_eps()),
      sequence_parallel(options.sequence_parallel()),
      weight(register_parameter(
          "weight",
          at::ones({options.hidden_size()}, at::TensorOptions()
                                                .dtype(options.dtype())
                                                .device(options.device())))) {}

Tensor RmsNormImpl::forward(const Tensor& x) {
  return rms_norm(
      x,
      sequence_parallel
          ? parallel_layers::copy_to_tensor_model_parallel_region(weight)
          : weight,
      eps);
}

}  // namespace colonnade

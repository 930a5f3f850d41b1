// colonnade/models/swiglu.cpp
#include "colonnade/models/swiglu.h"

#include "colonnade/models/detail/row_kernels.h"
#include "colonnade/models/detail/row_op.h"

#include <ATen/Dispatch.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/silu.h>
#include <torch/csrc/autograd/custom_function.h>

namespace colonnade {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

namespace {

struct SwigluFunction : torch::autograd::Function<SwigluFunction> {
  static Tensor forward(AutogradContext* ctx, const Tensor& gate,
                        const Tensor& up) {
    ctx->save_for_backward({gate, up});
    const Tensor g = gate.contiguous();
    const Tensor u = up.contiguous();
    const Tensor y = at::empty_like(g);
    AT_DISPATCH_FLOATING_TYPES(g.scalar_type(), "swiglu", [&] {
      detail::swiglu_forward(g.numel(), g.const_data_ptr<scalar_t>(),
                             u.const_data_ptr<scalar_t>(),
                             y.mutable_data_ptr<scalar_t>());
    });
    return y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const Tensor& gate = saved[0];
    const Tensor& up = saved[1];
    if (at::GradMode::is_enabled()) {  // of torch's ops, to go on from
      const Tensor s = at::sigmoid(gate);
      const Tensor silu = gate * s;
      return {grads[0] * up * (s + silu * (1 - s)), grads[0] * silu};
    }
    const Tensor grad = grads[0].contiguous();
    const Tensor g = gate.contiguous();
    const Tensor u = up.contiguous();
    const Tensor grad_gate = at::empty_like(g);
    const Tensor grad_up = at::empty_like(u);
    AT_DISPATCH_FLOATING_TYPES(g.scalar_type(), "swiglu_backward", [&] {
      detail::swiglu_backward(g.numel(), grad.const_data_ptr<scalar_t>(),
                              g.const_data_ptr<scalar_t>(),
                              u.const_data_ptr<scalar_t>(),
                              grad_gate.mutable_data_ptr<scalar_t>(),
                              grad_up.mutable_data_ptr<scalar_t>());
    });
    return {grad_gate, grad_up};
  }
};

}  // namespace

Tensor swiglu(const Tensor& gate, const Tensor& up) {
  if (detail::use_row_kernels({gate, up}) && gate.sizes() == up.sizes()) {
    return SwigluFunction::apply(gate, up);
  }
  return at::silu(gate) * up;
}

}  // namespace colonnade

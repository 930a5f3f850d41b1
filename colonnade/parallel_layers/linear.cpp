// colonnade/parallel_layers/linear.cpp
#include "colonnade/core/error.h"
#include "colonnade/parallel_layers/detail/matmul.h"
#include "colonnade/parallel_layers/functional.h"

#include <ATen/autocast_mode.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/library.h>

#include <optional>

namespace colonnade::parallel_layers {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using OptionalTensor = std::optional<Tensor>;

/// [..., n] as [rows, n].
Tensor as_rows(const Tensor& x) {
  return x.dim() == 1 ? x.unsqueeze(0) : x.flatten(0, -2);
}

Tensor call_linear(const Tensor& x, const Tensor& weight,
                   const OptionalTensor& bias) {
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("colonnade::linear", "")
          .typed<Tensor(const Tensor&, const Tensor&, const OptionalTensor&)>();
  return op.call(x, weight, bias);
}

Tensor linear_kernel(const Tensor& x, const Tensor& weight,
                     const OptionalTensor& bias) {
  check_arg(weight.dim() == 2 && x.dim() >= 1 && x.size(-1) == weight.size(1),
            "linear: an input of shape ", x.sizes(),
            " does not fit a weight of shape ", weight.sizes(),
            "; expected [..., in] and [out, in]");
  const Tensor y = detail::matmul(as_rows(x), weight, bias);
  if (x.dim() == 2) {
    return y;
  }
  c10::SmallVector<int64_t, 6> shape(x.sizes().begin(), x.sizes().end());
  shape.back() = weight.size(0);
  return y.view(shape);
}

/// Its backward is made of two further products of the same kind, so that
/// derivatives of any order go through the same engine.
struct LinearFunction : torch::autograd::Function<LinearFunction> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x,
                        const Tensor& weight, const OptionalTensor& bias) {
    ctx->save_for_backward({weight.requires_grad() ? x : Tensor(),
                            x.requires_grad() ? weight : Tensor()});
    ctx->saved_data["has_bias"] = bias.has_value();
    const at::AutoDispatchBelowADInplaceOrView below;
    return call_linear(x, weight, bias);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const Tensor& grad = grads[0];
    variable_list input_grads(3);
    if (!grad.defined()) {
      return input_grads;
    }
    const variable_list saved = ctx->get_saved_variables();
    if (ctx->needs_input_grad(0)) {
      input_grads[0] = call_linear(grad, saved[1].t(), std::nullopt);
    }
    if (ctx->needs_input_grad(1)) {
      input_grads[1] =
          call_linear(as_rows(grad).t(), as_rows(saved[0]).t(), std::nullopt);
    }
    // Asking about an input that is not there is an error.
    if (ctx->saved_data["has_bias"].toBool() && ctx->needs_input_grad(2)) {
      input_grads[2] = as_rows(grad).sum(0);
    }
    return input_grads;
  }
};

Tensor linear_autograd(const Tensor& x, const Tensor& weight,
                       const OptionalTensor& bias) {
  if (torch::autograd::compute_requires_grad(x, weight, bias)) {
    return LinearFunction::apply(x, weight, bias);
  }
  const at::AutoDispatchBelowADInplaceOrView below;
  return call_linear(x, weight, bias);
}

/// As torch's own linear does: in the lower precision of the scope.
template <at::DeviceType device>
Tensor linear_autocast(const Tensor& x, const Tensor& weight,
                       const OptionalTensor& bias) {
  const c10::impl::ExcludeDispatchKeyGuard once(
      at::autocast::get_autocast_dispatch_key_from_device_type(device));
  const at::ScalarType dtype = at::autocast::get_autocast_dtype(device);
  return call_linear(at::autocast::cached_cast(dtype, x, device),
                     at::autocast::cached_cast(dtype, weight, device),
                     at::autocast::cached_cast(dtype, bias, device));
}

TORCH_LIBRARY_FRAGMENT(colonnade, m) {
  m.def("linear(Tensor x, Tensor weight, Tensor? bias) -> Tensor");
}

TORCH_LIBRARY_IMPL(colonnade, CompositeExplicitAutograd, m) {
  m.impl("linear", &linear_kernel);
}

TORCH_LIBRARY_IMPL(colonnade, Autograd, m) {
  m.impl("linear", &linear_autograd);
}

TORCH_LIBRARY_IMPL(colonnade, AutocastCPU, m) {
  m.impl("linear", &linear_autocast<at::kCPU>);
}

TORCH_LIBRARY_IMPL(colonnade, AutocastCUDA, m) {
  m.impl("linear", &linear_autocast<at::kCUDA>);
}

}  // namespace

Tensor functional::linear(const Tensor& x, const Tensor& weight,
                          const Tensor& bias) {
  return call_linear(x, weight,
                     bias.defined() ? OptionalTensor(bias) : std::nullopt);
}

}  // namespace colonnade::parallel_layers

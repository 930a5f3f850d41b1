// colonnade/models/rms_norm.cpp
#include "colonnade/models/rms_norm.h"

#include "colonnade/parallel_layers/mappings.h"

#include <ATen/OpMathType.h>
#include <ATen/ops/ones.h>

namespace colonnade {

using at::Tensor;

Tensor rms_norm(const Tensor& x, const Tensor& weight, double eps) {
  const Tensor wide = x.to(at::toOpMathType(x.scalar_type()));
  const Tensor scale =
      wide.square().mean(-1, /*keepdim=*/true).add(eps).rsqrt();
  return (wide * scale * weight).to(x.scalar_type());
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

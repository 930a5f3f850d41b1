// colonnade/parallel_layers/column_parallel_linear.cpp
#include "colonnade/parallel_layers/column_parallel_linear.h"

#include "colonnade/parallel_layers/detail/layer_parameters.h"
#include "colonnade/parallel_layers/detail/resolve_group.h"
#include "colonnade/parallel_layers/functional.h"

#include <ATen/core/Tensor.h>

#include <utility>

namespace colonnade::parallel_layers {

ColumnParallelLinearImpl::ColumnParallelLinearImpl(
    ColumnParallelLinearOptions options_)
    : options(std::move(options_)) {
  // NOLINTNEXTLINE(clang-analyzer-optin.cplusplus.VirtualCall)
  reset();
}

void ColumnParallelLinearImpl::reset() {
  const GroupPtr group =
      detail::resolve_group(options.group(), "ColumnParallelLinear");
  const ShardSpec spec = detail::layer_spec({.layer = "ColumnParallelLinear",
                                             .name = "output_size",
                                             .dim = 0,
                                             .size = options.output_size(),
                                             .segments = options.segments(),
                                             .pad = options.pad()},
                                            *group);
  const at::TensorOptions place =
      at::device(options.device()).dtype(options.dtype());
  weight = register_parameter(
      "weight",
      detail::empty_shard({options.output_size(), options.input_size()}, spec,
                          *group, place));
  if (options.bias()) {
    bias = register_parameter(
        "bias",
        detail::empty_shard({options.output_size()}, spec, *group, place));
  } else {
    bias = register_parameter("bias", {}, /*requires_grad=*/false);
  }
  reset_parameters();
}

void ColumnParallelLinearImpl::reset_parameters() {
  detail::init_linear(weight, bias, options.input_size(),
                      options.init_method());
}

at::Tensor ColumnParallelLinearImpl::forward(const at::Tensor& x) {
  const CallSiteScope scope(call_site);
  return functional::column_parallel_linear(
      x, weight, options.skip_bias_add() ? at::Tensor() : bias,
      {.gather_output = options.gather_output(),
       .sequence_parallel_enabled = options.sequence_parallel_enabled(),
       .sequence_dimension = options.sequence_dimension(),
       .output_size = options.output_size(),
       .segments = options.segments(),
       .reduce_dtype = options.reduce_dtype()},
      options.group());
}

std::shared_ptr<torch::nn::Module> ColumnParallelLinearImpl::clone(
    const std::optional<at::Device>& device) const {
  auto copy = std::make_shared<ColumnParallelLinearImpl>(*this);
  copy->options.device(device.value_or(options.device()));
  copy->weight = copy->parameters_["weight"] =
      detail::copy_parameter(weight, device);
  copy->bias = copy->parameters_["bias"] = detail::copy_parameter(bias, device);
  return copy;
}

void ColumnParallelLinearImpl::pretty_print(std::ostream& stream) const {
  stream << std::boolalpha
         << "colonnade::parallel_layers::ColumnParallelLinear(input_size="
         << options.input_size() << ", output_size=" << options.output_size()
         << ", bias=" << options.bias()
         << ", gather_output=" << options.gather_output() << ")";
}

}  // namespace colonnade::parallel_layers

// colonnade/parallel_layers/row_parallel_linear.cpp
#include "colonnade/parallel_layers/row_parallel_linear.h"

#include "colonnade/core/error.h"
#include "colonnade/parallel_layers/detail/layer_parameters.h"
#include "colonnade/parallel_layers/detail/resolve_group.h"
#include "colonnade/parallel_layers/functional.h"
#include "colonnade/parallel_layers/mappings.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <utility>

namespace colonnade::parallel_layers {

RowParallelLinearImpl::RowParallelLinearImpl(RowParallelLinearOptions options_)
    : options(std::move(options_)) {
  // NOLINTNEXTLINE(clang-analyzer-optin.cplusplus.VirtualCall)
  reset();
}

void RowParallelLinearImpl::reset() {
  const GroupPtr group =
      detail::resolve_group(options.group(), "RowParallelLinear");
  check_arg(!options.sequence_parallel_enabled() || options.input_is_parallel(),
            "RowParallelLinear: sequence_parallel_enabled needs "
            "input_is_parallel; set it to true");
  check_arg(
      options.reduce_output() || !options.bias() || options.skip_bias_add(),
      "RowParallelLinear: a bias cannot be added to an output that is "
      "not reduced; set bias to false or skip_bias_add to true");
  const ShardSpec spec = detail::layer_spec({.layer = "RowParallelLinear",
                                             .name = "input_size",
                                             .dim = 1,
                                             .size = options.input_size(),
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
    bias =
        register_parameter("bias", at::empty({options.output_size()}, place));
  } else {
    bias = register_parameter("bias", {}, /*requires_grad=*/false);
  }
  reset_parameters();
}

void RowParallelLinearImpl::reset_parameters() {
  detail::init_linear(weight, bias, options.input_size(),
                      options.init_method());
}

at::Tensor RowParallelLinearImpl::forward(const at::Tensor& x) {
  const CallSiteScope scope(call_site);
  return functional::row_parallel_linear(
      x, weight, options.skip_bias_add() ? at::Tensor() : bias,
      {.input_is_parallel = options.input_is_parallel(),
       .sequence_parallel_enabled = options.sequence_parallel_enabled(),
       .sequence_dimension = options.sequence_dimension(),
       .reduce_output = options.reduce_output(),
       .reduce_dtype = options.reduce_dtype(),
       .input_size = options.input_size(),
       .segments = options.segments()},
      options.group());
}

at::Tensor RowParallelLinearImpl::skipped_bias() const {
  if (!bias.defined() || !options.sequence_parallel_enabled()) {
    return bias;
  }
  const CallSiteScope scope(call_site);
  return copy_to_tensor_model_parallel_region(bias, options.group());
}

std::shared_ptr<torch::nn::Module> RowParallelLinearImpl::clone(
    const std::optional<at::Device>& device) const {
  auto copy = std::make_shared<RowParallelLinearImpl>(*this);
  copy->options.device(device.value_or(options.device()));
  copy->weight = copy->parameters_["weight"] =
      detail::copy_parameter(weight, device);
  copy->bias = copy->parameters_["bias"] = detail::copy_parameter(bias, device);
  return copy;
}

void RowParallelLinearImpl::pretty_print(std::ostream& stream) const {
  stream << std::boolalpha
         << "colonnade::parallel_layers::RowParallelLinear(input_size="
         << options.input_size() << ", output_size=" << options.output_size()
         << ", bias=" << options.bias()
         << ", input_is_parallel=" << options.input_is_parallel() << ")";
}

}  // namespace colonnade::parallel_layers

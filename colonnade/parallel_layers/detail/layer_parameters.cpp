// colonnade/parallel_layers/detail/layer_parameters.cpp
#include "colonnade/parallel_layers/detail/layer_parameters.h"

#include "colonnade/core/error.h"
#include "colonnade/parallel_layers/detail/resolve_group.h"
#include "colonnade/sharding/attributes.h"

#include <ATen/ops/empty.h>
#include <torch/nn/init.h>

#include <cmath>
#include <numeric>

namespace colonnade::parallel_layers::detail {

ShardSpec layer_spec(const LayerSplit& split, const Group& group) {
  const int64_t ranks = group.size();
  check_arg(split.size >= 0, split.layer, ": ", split.name, " is ", split.size,
            "; expected 0 or more");
  if (!split.segments.empty()) {
    const int64_t sum = std::accumulate(split.segments.begin(),
                                        split.segments.end(), int64_t{0});
    check_arg(sum == split.size, split.layer, ": segments ", split.segments,
              " add up to ", sum, ", not to ", split.name, " ", split.size);
    check_arg(!split.pad, split.layer,
              ": segments cannot be padded; make each a multiple of the ",
              ranks, " ranks");
    for (const int64_t segment : split.segments) {
      check_arg(segment % ranks == 0, split.layer, ": segment ", segment,
                " of ", split.segments, " does not divide over ", ranks,
                " ranks; make it ", round_up(segment, ranks));
    }
    return ShardSpec::segments(split.dim, split.segments, group.rank(), ranks);
  }
  if (split.size % ranks == 0) {
    return ShardSpec::even(split.dim, split.size, group.rank(), ranks);
  }
  check_arg(split.pad, split.layer, ": ", split.name, " ", split.size,
            " does not divide over ", ranks,
            " ranks; set pad to true, or "
            "make it ",
            round_up(split.size, ranks));
  return ShardSpec::padded(split.dim, split.size, group.rank(), ranks);
}

at::Tensor empty_shard(at::IntArrayRef whole_shape, const ShardSpec& spec,
                       const Group& group, at::TensorOptions options) {
  at::Tensor shard = at::empty(spec.local_shape(whole_shape), options);
  set_tensor_parallel_attributes(shard, {spec, group.name()});
  return shard;
}

at::Tensor copy_parameter(const at::Tensor& parameter,
                          const std::optional<at::Device>& device) {
  if (!parameter.defined()) {
    return parameter;
  }
  const at::Tensor data = parameter.detach();
  at::Tensor copy = device ? data.to(*device, data.scalar_type(),
                                     /*non_blocking=*/false, /*copy=*/true)
                           : data.clone();
  copy_tensor_parallel_attributes(copy, parameter);
  return copy.requires_grad_(parameter.requires_grad());
}

void init_linear(at::Tensor& weight, at::Tensor& bias, int64_t input_size,
                 const InitMethod& init_method) {
  init_parameter(
      weight, init_method ? init_method : [](at::Tensor& whole) {
        if (whole.numel() > 0) {  // torch's bound for no inputs is infinite
          torch::nn::init::kaiming_uniform_(whole, std::sqrt(5.0));
        }
      });
  if (bias.defined()) {
    init_parameter(bias, [input_size](at::Tensor& whole) {
      const double bound =
          input_size > 0 ? 1.0 / std::sqrt(static_cast<double>(input_size))
                         : 0.0;
      torch::nn::init::uniform_(whole, -bound, bound);
    });
  }
}

}  // namespace colonnade::parallel_layers::detail

// colonnade/models/detail/row_op.cpp
#include "colonnade/models/detail/row_op.h"

#include "colonnade/parallel_layers/detail/recording.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>

namespace colonnade::detail {

bool use_row_kernels(std::initializer_list<at::Tensor> inputs) {
  const at::Tensor& first = *inputs.begin();
  const at::ScalarType dtype = first.scalar_type();
  return at::GradMode::is_enabled() &&
         !parallel_layers::detail::is_recording() &&
         (dtype == at::kFloat || dtype == at::kDouble) &&
         std::all_of(inputs.begin(), inputs.end(),
                     [&](const at::Tensor& x) {
                       return x.is_cpu() && x.scalar_type() == dtype;
                     }) &&
         std::any_of(inputs.begin(), inputs.end(),
                     [](const at::Tensor& x) { return x.requires_grad(); });
}

}  // namespace colonnade::detail

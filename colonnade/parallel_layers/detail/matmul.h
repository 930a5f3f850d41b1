// colonnade/parallel_layers/detail/matmul.h
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace colonnade::parallel_layers::detail {

/// a b^T + bias, below autograd: every matrix product of the layers.
///
/// a     [m, k], of any strides
/// b     [n, k], of any strides
/// bias  [n], or empty
at::Tensor matmul(const at::Tensor& a, const at::Tensor& b,
                  const std::optional<at::Tensor>& bias);

}  // namespace colonnade::parallel_layers::detail

// tests/models/same_function.h
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

namespace colonnade::testing {

using TensorFunction =
    std::function<at::Tensor(const std::vector<at::Tensor>&)>;

/// Expects `got` to be `want` at `inputs` (doubles): values with and without
/// gradients taken, gradients of every input, and second derivatives, within
/// 1e-10; and values and gradients within `float_tolerance` in fp32.
void expect_same_function(const TensorFunction& got, const TensorFunction& want,
                          const std::vector<at::Tensor>& inputs,
                          double float_tolerance);

}  // namespace colonnade::testing

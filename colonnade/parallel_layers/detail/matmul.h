// colonnade/parallel_layers/detail/matmul.h
#pragma once

#include "colonnade/core/api.h"

#include <ATen/core/Tensor.h>

#include <optional>
#include <string_view>

namespace colonnade::parallel_layers::detail {

/// Who computes matrix products on the CPU.
enum class MatmulEngine {
  kTorch,   ///< at::linear: MKL for fp32, oneDNN for bf16 and fp16.
  kOneDnn,  ///< oneDNN for fp32 too, where the shape suits it.
};

/// The engine called `name`, torch or onednn; InvalidArgument otherwise.
COLONNADE_API MatmulEngine parse_matmul_engine(std::string_view name);

/// The engine in use: that of settings().matmul_engine, or else the faster on
/// this kind of CPU, which is chosen by vendor and instruction set so that runs
/// repeat.
COLONNADE_API MatmulEngine matmul_engine();

/// Puts `engine` in use; empty goes back to the choice above. For tests and
/// benchmarks, while no rank computes.
COLONNADE_API void set_matmul_engine(std::optional<MatmulEngine> engine);

/// a b^T + bias, below autograd: every matrix product of the layers.
///
/// a     [m, k], of any strides
/// b     [n, k], of any strides
/// bias  [n], or empty
COLONNADE_API at::Tensor matmul(const at::Tensor& a, const at::Tensor& b,
                                const std::optional<at::Tensor>& bias);

}  // namespace colonnade::parallel_layers::detail

// colonnade/models/rms_norm.h
#pragma once

#include "colonnade/models/llama_options.h"

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

namespace colonnade {

/// y = x / sqrt(mean(x^2) + eps) * weight, over the last dim.
///
/// Sums are in fp32 (fp64 for doubles). Where gradients are taken on the CPU it
/// is one pass over x each way; else a handful of torch's own ops, so that a
/// recorded graph holds nothing else.
///
/// x       [..., size]
/// weight  [size]
/// Source  Zhang and Sennrich 2019 (arXiv 1910.07467)
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);

/// rms_norm over hidden_size with a weight that is replicated. Under sequence
/// parallelism each rank sees its part of the sequence, so the weight's
/// gradient is summed over the tensor-parallel ranks.
class RmsNormImpl : public torch::nn::Module {
 public:
  explicit RmsNormImpl(const LlamaOptions& options);
  at::Tensor forward(const at::Tensor& x);

  double eps;
  bool sequence_parallel;
  at::Tensor weight;  ///< [hidden_size]
};
TORCH_MODULE(RmsNorm);

}  // namespace colonnade

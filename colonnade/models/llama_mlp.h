// colonnade/models/llama_mlp.h
#pragma once

#include "colonnade/models/llama_options.h"
#include "colonnade/parallel_layers/column_parallel_linear.h"
#include "colonnade/parallel_layers/row_parallel_linear.h"

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

namespace colonnade {

/// down(swiglu(gate(x), up(x))), the intermediate size split over P ranks.
///
/// Input, output  [batch, seq, hidden], or this rank's part of seq if
///                sequence-parallel
/// Wire           forward an all-reduce (a gather and a reduce-scatter if
///                sequence-parallel), backward the same
class LlamaMlpImpl : public torch::nn::Module {
 public:
  explicit LlamaMlpImpl(const LlamaOptions& options);
  at::Tensor forward(const at::Tensor& x);

  bool sequence_parallel;
  parallel_layers::ColumnParallelLinear gate_proj, up_proj;
  parallel_layers::RowParallelLinear down_proj;
};
TORCH_MODULE(LlamaMlp);

}  // namespace colonnade

// tests/api/mlp.h
#pragma once

#include <colonnade/colonnade.h>

#include <ATen/ops/gelu.h>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include <cstdint>

namespace colonnade {

/// A column and a row layer as API.md puts them together.
struct MlpImpl : torch::nn::Module {
  explicit MlpImpl(int64_t hidden, at::ScalarType dtype = at::kFloat,
                   at::Device device = at::kCPU)
      : up(parallel_layers::ColumnParallelLinearOptions(hidden, 4 * hidden)
               .gather_output(false)
               .dtype(dtype)
               .device(device)),
        down(parallel_layers::RowParallelLinearOptions(4 * hidden, hidden)
                 .input_is_parallel(true)
                 .dtype(dtype)
                 .device(device)) {
    register_module("up", up);
    register_module("down", down);
  }
  at::Tensor forward(const at::Tensor& x) { return down(at::gelu(up(x))); }

  parallel_layers::ColumnParallelLinear up;
  parallel_layers::RowParallelLinear down;
};
TORCH_MODULE(Mlp);

}  // namespace colonnade

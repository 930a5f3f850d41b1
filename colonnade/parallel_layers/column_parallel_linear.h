// colonnade/parallel_layers/column_parallel_linear.h
#pragma once

#include "colonnade/comm/call_site.h"
#include "colonnade/comm/group.h"
#include "colonnade/core/api.h"
#include "colonnade/parallel_layers/init.h"

#include <torch/arg.h>
#include <torch/nn/cloneable.h>
#include <torch/nn/pimpl.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <ostream>
#include <vector>

namespace colonnade::parallel_layers {

struct COLONNADE_API ColumnParallelLinearOptions {
  ColumnParallelLinearOptions(int64_t input_size, int64_t output_size)
      : input_size_(input_size), output_size_(output_size) {}
  TORCH_ARG(int64_t, input_size);
  TORCH_ARG(int64_t, output_size);        ///< Whole, before the split.
  TORCH_ARG(bool, bias) = true;           ///< Split like the output.
  TORCH_ARG(bool, gather_output) = true;  ///< The whole Y, not this Y_i.
  TORCH_ARG(at::ScalarType, dtype) = at::kFloat;
  TORCH_ARG(at::Device, device) = at::kCPU;
  TORCH_ARG(GroupPtr, group) = nullptr;  ///< Null: the current TP group.
  /// Fills the whole weight; null: as torch::nn::Linear, bias included.
  TORCH_ARG(InitMethod, init_method) = nullptr;
  /// The input is this rank's part of the sequence, and is gathered.
  TORCH_ARG(bool, sequence_parallel_enabled) = false;
  TORCH_ARG(int64_t, sequence_dimension) = 0;
  /// Sizes of the parts of a fused output (query, key, value; gate, up), each
  /// split by itself; empty: one part. Not with `pad`.
  TORCH_ARG(std::vector<int64_t>, segments);
  /// Pads an output_size that does not divide over the ranks; the padding is in
  /// memory only, and never in a gathered output or a checkpoint.
  TORCH_ARG(bool, pad) = false;
  /// `forward` leaves the bias out, for a caller that fuses it.
  TORCH_ARG(bool, skip_bias_add) = false;
  /// In which the input's gradient is added up; empty: its own dtype.
  TORCH_ARG(std::optional<at::ScalarType>, reduce_dtype);
};

/// Y = X A^T + b, the rows of A and b split over P ranks.
///
/// Input   [..., input_size], equal on every rank
/// Output  [..., output_size], or [..., output_size / P] if not gathered
/// Init    that of torch::nn::Linear(input_size, output_size), bit for bit
/// Wire    forward an all-gather of Y if gathered; backward an all-reduce of
///         X's gradient
/// Errors  InvalidArgument where output_size does not divide, or X's last size
///         is not input_size
/// Source  Shoeybi et al. 2019 (arXiv 1909.08053), section 3
class COLONNADE_API ColumnParallelLinearImpl
    : public torch::nn::Cloneable<ColumnParallelLinearImpl> {
 public:
  ColumnParallelLinearImpl(int64_t input_size, int64_t output_size)
      : ColumnParallelLinearImpl(
            ColumnParallelLinearOptions(input_size, output_size)) {}
  explicit ColumnParallelLinearImpl(ColumnParallelLinearOptions options);

  void reset() override;
  void reset_parameters();
  at::Tensor forward(const at::Tensor& x);
  /// A copy with the same attributes; draws nothing.
  std::shared_ptr<torch::nn::Module> clone(
      const std::optional<at::Device>& device = std::nullopt) const override;
  void pretty_print(std::ostream& stream) const override;

  ColumnParallelLinearOptions options;
  CallSite call_site{"ColumnParallelLinear"};  ///< For errors; see name_layers.
  at::Tensor weight;  ///< [output_size / P, input_size]
  at::Tensor bias;    ///< [output_size / P], or undefined
};
TORCH_MODULE(ColumnParallelLinear);

}  // namespace colonnade::parallel_layers

// colonnade/parallel_layers/row_parallel_linear.h
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

struct COLONNADE_API RowParallelLinearOptions {
  RowParallelLinearOptions(int64_t input_size, int64_t output_size)
      : input_size_(input_size), output_size_(output_size) {}
  TORCH_ARG(int64_t, input_size);  ///< Whole, before the split.
  TORCH_ARG(int64_t, output_size);
  TORCH_ARG(bool, bias) = true;  ///< Whole on every rank, added once.
  /// The input is already this rank's part, as a ColumnParallelLinear that
  /// does not gather leaves it.
  TORCH_ARG(bool, input_is_parallel) = false;
  TORCH_ARG(at::ScalarType, dtype) = at::kFloat;
  TORCH_ARG(at::Device, device) = at::kCPU;
  TORCH_ARG(GroupPtr, group) = nullptr;  ///< Null: the current TP group.
  /// Fills the whole weight; null: as torch::nn::Linear, bias included.
  TORCH_ARG(InitMethod, init_method) = nullptr;
  /// The output is this rank's part of the sequence. Needs input_is_parallel.
  TORCH_ARG(bool, sequence_parallel_enabled) = false;
  TORCH_ARG(int64_t, sequence_dimension) = 0;
  /// Sizes of the parts of a fused input, each split by itself, as a
  /// ColumnParallelLinear of these segments leaves them; empty: one part. Not
  /// with `pad`.
  TORCH_ARG(std::vector<int64_t>, segments);
  /// Pads an input_size that does not divide over the ranks, in memory only.
  TORCH_ARG(bool, pad) = false;
  /// `forward` leaves the bias out, for a caller that fuses `skipped_bias()`.
  TORCH_ARG(bool, skip_bias_add) = false;
  /// False leaves each rank its partial sum; the bias must then be off or
  /// skipped.
  TORCH_ARG(bool, reduce_output) = true;
  /// The dtype in which partial sums are added up; empty: that of the input.
  TORCH_ARG(std::optional<at::ScalarType>, reduce_dtype);
};

/// Y = X A^T + b, the columns of A split over P ranks.
///
/// Input   [..., input_size / P] if parallel, else [..., input_size]
/// Output  [..., output_size]
/// Init    that of torch::nn::Linear(input_size, output_size), bit for bit
/// Wire    forward an all-reduce of Y; backward an all-gather of X's gradient
///         if X was whole
/// Errors  InvalidArgument where input_size does not divide, or X's last size
///         does not fit
/// Source  Shoeybi et al. 2019 (arXiv 1909.08053), section 3
class COLONNADE_API RowParallelLinearImpl
    : public torch::nn::Cloneable<RowParallelLinearImpl> {
 public:
  RowParallelLinearImpl(int64_t input_size, int64_t output_size)
      : RowParallelLinearImpl(
            RowParallelLinearOptions(input_size, output_size)) {}
  explicit RowParallelLinearImpl(RowParallelLinearOptions options);

  void reset() override;
  void reset_parameters();
  at::Tensor forward(const at::Tensor& x);
  /// The bias as a caller adds it to an output that was made without: with
  /// sequence parallelism to this rank's part of the sequence, so its gradient
  /// is summed over the ranks, which that of `bias` itself would not be.
  /// Undefined where there is none.
  ///
  /// Wire    backward an all-reduce with sequence parallelism, else none
  at::Tensor skipped_bias() const;
  /// A copy with the same attributes; draws nothing.
  std::shared_ptr<torch::nn::Module> clone(
      const std::optional<at::Device>& device = std::nullopt) const override;
  void pretty_print(std::ostream& stream) const override;

  RowParallelLinearOptions options;
  CallSite call_site{"RowParallelLinear"};  ///< For errors; see name_layers.
  at::Tensor weight;                        ///< [output_size, input_size / P]
  at::Tensor bias;                          ///< [output_size], or undefined
};
TORCH_MODULE(RowParallelLinear);

}  // namespace colonnade::parallel_layers

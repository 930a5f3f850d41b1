// colonnade/parallel_layers/dropout.h
#pragma once

#include "colonnade/core/api.h"

#include <torch/nn/cloneable.h>
#include <torch/nn/pimpl.h>

#include <ostream>

namespace colonnade::parallel_layers {

/// torch::nn::Dropout for activations that are split over ranks: draws from
/// the rank's `tensor_parallel` generator, so that ranks drop different
/// elements. In replicated regions use torch::nn::Dropout, which drops alike on
/// all ranks.
class COLONNADE_API DropoutImpl : public torch::nn::Cloneable<DropoutImpl> {
 public:
  explicit DropoutImpl(double p = 0.5);
  void reset() override;
  at::Tensor forward(const at::Tensor& x);
  void pretty_print(std::ostream& stream) const override;

  double p;  ///< The probability of an element to be zeroed.
};
TORCH_MODULE(Dropout);

}  // namespace colonnade::parallel_layers

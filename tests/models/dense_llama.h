// tests/models/dense_llama.h
#pragma once

#include "colonnade/models/llama.h"

#include <ATen/core/Tensor.h>

#include <map>
#include <string>

namespace colonnade::testing {

/// Whole tensors by parameter name, as `gather_parameter` gives them.
using Weights = std::map<std::string, at::Tensor>;

/// The whole weights of a split model. Collective.
Weights whole_weights(const Llama& model);

/// The whole gradients of a split model's last backward. Collective.
Weights whole_gradients(const Llama& model);

/// A Llama of plain torch ops that knows nothing of ranks: what the split one
/// is compared with. It shares no code with it; the rotary embedding, for one,
/// multiplies complex numbers here.
class DenseLlama {
 public:
  /// Takes gradients with respect to copies of `weights`.
  DenseLlama(const LlamaOptions& options, const Weights& weights);

  at::Tensor logits(const at::Tensor& ids) const;
  at::Tensor loss(const at::Tensor& ids, const at::Tensor& targets) const;

  Weights weights;

 private:
  at::Tensor norm(const at::Tensor& x, const std::string& name) const;
  at::Tensor linear(const at::Tensor& x, const std::string& name) const;
  at::Tensor heads(const at::Tensor& x, const std::string& name,
                   bool turned) const;
  at::Tensor attention(const at::Tensor& x, const std::string& layer) const;
  at::Tensor mlp(const at::Tensor& x, const std::string& layer) const;

  LlamaOptions options_;
};

}  // namespace colonnade::testing

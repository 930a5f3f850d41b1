// colonnade/parallel_layers/sum_gradients_over_sequence.cpp
#include "colonnade/comm/rank_context.h"
#include "colonnade/parallel_layers/average_gradients.h"
#include "colonnade/parallel_layers/column_parallel_linear.h"
#include "colonnade/parallel_layers/detail/resolve_group.h"
#include "colonnade/parallel_layers/mappings.h"
#include "colonnade/parallel_layers/parallel_embedding.h"
#include "colonnade/parallel_layers/row_parallel_linear.h"

#include <ATen/ATen.h>
#include <c10/util/intrusive_ptr.h>
#include <torch/nn/module.h>

#include <algorithm>
#include <memory>
#include <vector>

namespace colonnade::parallel_layers {
namespace {

using at::Tensor;

/// The parameters of a rank that have the hook already: a tied one, or one
/// whose module is given twice, is summed once.
class Hooked {
 public:
  /// Whether `parameter` is new.
  bool insert(const Tensor& parameter) {
    std::erase_if(parameters_, [](const Weak& p) { return p.expired(); });
    const auto same = [&](const Weak& p) {
      return p._unsafe_get_target() == parameter.unsafeGetTensorImpl();
    };
    if (std::any_of(parameters_.begin(), parameters_.end(), same)) {
      return false;
    }
    parameters_.emplace_back(parameter.getIntrusivePtr());
    return true;
  }

 private:
  using Weak = c10::weak_intrusive_ptr<c10::TensorImpl>;
  std::vector<Weak> parameters_;
};

/// Layers that sum what they must by themselves.
bool is_parallel_layer(const torch::nn::Module& module) {
  return module.as<ColumnParallelLinear>() != nullptr ||
         module.as<RowParallelLinear>() != nullptr ||
         module.as<ParallelEmbedding>() != nullptr;
}

void sum_gradients(torch::nn::Module& module, const GroupPtr& group) {
  if (is_parallel_layer(module)) {
    return;
  }
  const RankContextPtr& context = RankContext::current();
  for (const Tensor& parameter : module.parameters(/*recurse=*/false)) {
    if (parameter.requires_grad() &&
        context->slot<Hooked>().insert(parameter)) {
      parameter.register_hook([context, group](const Tensor& grad) {
        const RankContextScope scope(context);
        return reduce_from_tensor_model_parallel_region(grad, group);
      });
    }
  }
  for (const std::shared_ptr<torch::nn::Module>& child : module.children()) {
    sum_gradients(*child, group);
  }
}

}  // namespace

void sum_gradients_over_sequence(torch::nn::Module& module,
                                 const GroupPtr& group) {
  const GroupPtr resolved =
      detail::resolve_group(group, "sum_gradients_over_sequence");
  if (resolved->size() > 1) {
    sum_gradients(module, resolved);
  }
}

}  // namespace colonnade::parallel_layers

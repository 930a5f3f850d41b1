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
#include <string>
#include <vector>

namespace colonnade::parallel_layers {
namespace {

using at::Tensor;

/// The parameters of a rank that have the hook already, and of which group: a
/// tied one, or one whose module is given twice, is summed once.
class Hooked {
 public:
  /// Whether `parameter` is new to the group `group`.
  bool insert(const Tensor& parameter, const std::string& group) {
    std::erase_if(hooks_, [](const Hook& h) { return h.parameter.expired(); });
    const auto same = [&](const Hook& h) {
      return h.group == group && h.parameter._unsafe_get_target() ==
                                     parameter.unsafeGetTensorImpl();
    };
    if (std::any_of(hooks_.begin(), hooks_.end(), same)) {
      return false;
    }
    hooks_.push_back({Weak(parameter.getIntrusivePtr()), group});
    return true;
  }

 private:
  using Weak = c10::weak_intrusive_ptr<c10::TensorImpl>;
  struct Hook {
    Weak parameter;
    std::string group;
  };
  std::vector<Hook> hooks_;
};

/// Whether it has, or may come to have, a gradient.
bool can_have_gradient(const Tensor& parameter) {
  return (parameter.is_floating_point() || parameter.is_complex()) &&
         !parameter.is_inference();
}

/// The group is found by name in each backward: it may have been made anew.
void sum_gradient(const Tensor& parameter, const std::string& group) {
  const RankContextPtr& context = RankContext::current();
  if (!can_have_gradient(parameter) ||
      !context->slot<Hooked>().insert(parameter, group)) {
    return;
  }
  const bool is_trained = parameter.requires_grad();
  parameter.set_requires_grad(true);  // or torch takes no hook
  parameter.register_hook([context, group](const Tensor& grad) {
    const RankContextScope scope(context);
    return reduce_from_tensor_model_parallel_region(grad,
                                                    context->group(group));
  });
  parameter.set_requires_grad(is_trained);
}

/// Layers that sum what they must by themselves.
bool is_parallel_layer(const torch::nn::Module& module) {
  return module.as<ColumnParallelLinear>() != nullptr ||
         module.as<RowParallelLinear>() != nullptr ||
         module.as<ParallelEmbedding>() != nullptr;
}

void sum_gradients(torch::nn::Module& module, const std::string& group) {
  if (is_parallel_layer(module)) {
    return;
  }
  for (const Tensor& parameter : module.parameters(/*recurse=*/false)) {
    sum_gradient(parameter, group);
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
    sum_gradients(module, resolved->name());
  }
}

}  // namespace colonnade::parallel_layers

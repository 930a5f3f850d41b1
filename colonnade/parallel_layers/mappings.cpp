// colonnade/parallel_layers/mappings.cpp
#include "colonnade/parallel_layers/mappings.h"

#include "colonnade/comm/rank_context.h"
#include "colonnade/core/error.h"
#include "colonnade/parallel_layers/detail/dim_collectives.h"
#include "colonnade/parallel_layers/detail/recording.h"
#include "colonnade/parallel_layers/detail/reduce_in_place.h"
#include "colonnade/parallel_layers/detail/resolve_group.h"
#include "colonnade/parallel_layers/detail/saved_context.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/VariableTypeUtils.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/library.h>

#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace colonnade::parallel_layers {
namespace {

using at::Tensor;
using c10::DispatchKeySet;
using torch::autograd::variable_list;
using OptionalType = std::optional<at::ScalarType>;

// Names of the ops and of the functions alike; subjects of their errors.
constexpr const char* kCopyTo = "copy_to_tensor_model_parallel_region";
constexpr const char* kReduceFrom = "reduce_from_tensor_model_parallel_region";
constexpr const char* kReduceFromInPlace =
    "reduce_from_tensor_model_parallel_region_";
constexpr const char* kScatterTo = "scatter_to_tensor_model_parallel_region";
constexpr const char* kGatherFrom = "gather_from_tensor_model_parallel_region";
constexpr const char* kScatterToSequence =
    "scatter_to_sequence_parallel_region";
constexpr const char* kGatherFromSequence =
    "gather_from_sequence_parallel_region";
constexpr const char* kReduceScatterToSequence =
    "reduce_scatter_to_sequence_parallel_region";

Group& group_named(std::string_view name) {
  return *RankContext::current()->group(name);
}

// Kernels below Autograd, for every device. The public functions spare a group
// of one the call; a recorded graph does not, and gets a copy, as the schemas
// promise.

Tensor copy_to_kernel(const Tensor& x, std::string_view, OptionalType) {
  return x.alias();
}

Tensor reduce_from_kernel(const Tensor& x, std::string_view group) {
  return detail::all_reduce(x, group_named(group));
}

Tensor& reduce_in_place_kernel(Tensor& x, std::string_view group) {
  if (!x.is_contiguous()) {
    return x.copy_(detail::all_reduce(x, group_named(group)));
  }
  if (!x.is_meta()) {
    group_named(group).all_reduce(x);
  }
  return x;
}

template <const char* const& name>
Tensor scatter_kernel(const Tensor& x, int64_t dim, std::string_view group) {
  return detail::own_part(x, detail::wrap_dim(x, dim, name), group_named(group),
                          name);
}

Tensor gather_from_kernel(const Tensor& x, int64_t dim,
                          std::string_view group) {
  return detail::all_gather(x, detail::wrap_dim(x, dim, kGatherFrom),
                            group_named(group));
}

Tensor gather_from_sequence_kernel(const Tensor& x, int64_t dim,
                                   bool /*to_model_parallel*/,
                                   std::string_view group, OptionalType) {
  return detail::all_gather(x, detail::wrap_dim(x, dim, kGatherFromSequence),
                            group_named(group));
}

Tensor reduce_scatter_kernel(const Tensor& x, int64_t dim,
                             std::string_view group) {
  return detail::reduce_scatter(
      x, detail::wrap_dim(x, dim, kReduceScatterToSequence), group_named(group),
      kReduceScatterToSequence);
}

/// The op called `name`, looked up once.
template <const char* const& name, typename... Args>
const auto& op() {
  static const auto handle =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow(concat("colonnade::", name).c_str(), "")
          .typed<Tensor(const Tensor&, Args...)>();
  return handle;
}

/// What a mapping's backward calls: the mapping that is its transpose. It owns
/// the gradient as far as autograd's engine does.
using Transpose = Tensor (*)(Tensor grad, int64_t dim, const GroupPtr& group);

/// A mapping along a dim as a Transpose.
template <Tensor (*mapping)(const Tensor&, int64_t, const GroupPtr&)>
Tensor transposed(Tensor grad, int64_t dim, const GroupPtr& group) {
  return mapping(grad, dim, group);
}

struct MappingBackward final : torch::autograd::Node {
  variable_list apply(variable_list&& grads) override {
    if (!grads[0].defined()) {
      return {Tensor()};
    }
    const detail::SavedContextScope scope(saved);
    Tensor grad = std::move(grads[0]);
    const at::ScalarType dtype = grad.scalar_type();
    if (!reduce_dtype.has_value() || *reduce_dtype == dtype) {
      return {transpose(std::move(grad), dim, group)};
    }
    return {transpose(grad.to(*reduce_dtype), dim, group).to(dtype)};
  }
  std::string name() const override { return mapping; }

  const char* mapping = nullptr;
  Transpose transpose = nullptr;
  int64_t dim = 0;
  OptionalType reduce_dtype;
  GroupPtr group;
  detail::SavedContext saved;
};

/// The node that remembers this rank for the backward of the mapping called
/// `name`; null where `x` needs no gradient.
std::shared_ptr<MappingBackward> backward_node(const char* name,
                                               const Tensor& x, int64_t dim,
                                               std::string_view group,
                                               Transpose transpose,
                                               OptionalType reduce_dtype = {}) {
  check_arg(!torch::autograd::isFwGradDefined(x), name,
            ": forward-mode derivatives are not supported");
  if (!torch::autograd::compute_requires_grad(x)) {
    return nullptr;
  }
  std::shared_ptr<MappingBackward> node(new MappingBackward,
                                        torch::autograd::deleteNode);
  node->set_next_edges(torch::autograd::collect_next_edges(x));
  node->mapping = name;
  node->transpose = transpose;
  node->dim = dim;
  node->reduce_dtype = reduce_dtype;
  node->group = node->saved.context->group(group);
  return node;
}

/// The Autograd kernel of the op called `name`: the kernel below, and a node.
template <const char* const& name, typename... Args>
Tensor differentiable(DispatchKeySet keys, const Tensor& x, int64_t dim,
                      std::string_view group, OptionalType reduce_dtype,
                      Transpose transpose, Args... args) {
  const auto node = backward_node(name, x, dim, group, transpose, reduce_dtype);
  // A view is still to pass ADInplaceOrView.
  using Below =
      std::conditional_t<&name == &kCopyTo, at::AutoDispatchBelowAutograd,
                         at::AutoDispatchBelowADInplaceOrView>;
  Tensor y = [&] {
    const Below below;
    return op<name, Args...>().redispatch(keys & c10::after_autograd_keyset, x,
                                          args...);
  }();
  if (node != nullptr) {
    torch::autograd::set_history(y, node);
  }
  return y;
}

/// Whether nobody else can see the memory of `grad`, nor will ask for the
/// derivative of what becomes of it.
bool is_free_to_change(const Tensor& grad) {
  return !at::GradMode::is_enabled() && grad.use_count() == 1 &&
         grad.storage().use_count() == 1 && grad.is_contiguous();
}

Tensor reduce_gradient(Tensor grad, int64_t, const GroupPtr& group) {
  return is_free_to_change(grad)
             ? detail::reduce_in_place(grad, group)
             : reduce_from_tensor_model_parallel_region(grad, group);
}

Tensor copy_to_autograd(DispatchKeySet keys, const Tensor& x,
                        std::string_view group, OptionalType reduce_dtype) {
  return differentiable<kCopyTo>(keys, x, 0, group, reduce_dtype,
                                 &reduce_gradient, group, reduce_dtype);
}

/// Tells autograd that the copy shares memory. Its history cannot be made anew
/// after a change in place, as that of torch's views is, so autograd refuses
/// such a change.
Tensor copy_to_view(DispatchKeySet keys, const Tensor& x,
                    std::string_view group, OptionalType reduce_dtype) {
  using torch::autograd::CreationMeta;
  Tensor y = [&] {
    const at::AutoDispatchBelowADInplaceOrView below;
    return op<kCopyTo, std::string_view, OptionalType>().redispatch(
        keys & c10::after_ADInplaceOrView_keyset, x, group, reduce_dtype);
  }();
  const CreationMeta made_in =
      c10::InferenceMode::is_enabled() ? CreationMeta::INFERENCE_MODE
      : at::GradMode::is_enabled()     ? CreationMeta::IN_CUSTOM_FUNCTION
                                       : CreationMeta::NO_GRAD_MODE;
  return torch::autograd::as_view(x, y, /*is_bw_differentiable=*/true,
                                  /*is_fw_differentiable=*/false,
                                  /*view_func=*/nullptr,
                                  /*rev_view_func=*/nullptr, made_in);
}

Tensor copy_to_gradient(Tensor grad, int64_t, const GroupPtr& group) {
  return copy_to_tensor_model_parallel_region(grad, group);
}

Tensor reduce_from_autograd(DispatchKeySet keys, const Tensor& x,
                            std::string_view group) {
  return differentiable<kReduceFrom>(keys, x, 0, group, {}, &copy_to_gradient,
                                     group);
}

const auto& reduce_in_place_op() {
  static const auto handle =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow(concat("colonnade::", kReduceFromInPlace).c_str(),
                             "")
          .typed<Tensor&(Tensor&, std::string_view)>();
  return handle;
}

Tensor& reduce_in_place_autograd(DispatchKeySet keys, Tensor& x,
                                 std::string_view group) {
  const auto node =
      backward_node(kReduceFromInPlace, x, 0, group, &copy_to_gradient);
  torch::autograd::check_inplace(x, node != nullptr);
  {
    const at::AutoDispatchBelowAutograd below;
    reduce_in_place_op().redispatch(keys & c10::after_autograd_keyset, x,
                                    group);
  }
  if (node != nullptr) {
    torch::autograd::rebase_history(x, node);
  }
  return x;
}

/// Tells autograd that the tensor has changed.
Tensor& reduce_in_place_version(DispatchKeySet keys, Tensor& x,
                                std::string_view group) {
  {
    const at::AutoDispatchBelowADInplaceOrView below;
    reduce_in_place_op().redispatch(keys & c10::after_ADInplaceOrView_keyset, x,
                                    group);
  }
  torch::autograd::increment_version(x);
  return x;
}

// Functionalization, which torch.compile does before it compiles, takes no op
// of ours that returns what it was given: the same in ops that it knows.

Tensor copy_to_functional(const Tensor& x, std::string_view, OptionalType) {
  return x.alias();
}

Tensor& reduce_in_place_functional(Tensor& x, std::string_view group) {
  return x.copy_(op<kReduceFrom, std::string_view>().call(x, group));
}

Tensor scatter_to_autograd(DispatchKeySet keys, const Tensor& x, int64_t dim,
                           std::string_view group) {
  return differentiable<kScatterTo>(
      keys, x, dim, group, {},
      &transposed<&gather_from_tensor_model_parallel_region>, dim, group);
}

Tensor gather_from_autograd(DispatchKeySet keys, const Tensor& x, int64_t dim,
                            std::string_view group) {
  return differentiable<kGatherFrom>(
      keys, x, dim, group, {},
      &transposed<&scatter_to_tensor_model_parallel_region>, dim, group);
}

Tensor scatter_to_sequence_autograd(DispatchKeySet keys, const Tensor& x,
                                    int64_t dim, std::string_view group) {
  return differentiable<kScatterToSequence>(
      keys, x, dim, group, {},
      [](Tensor grad, int64_t saved_dim, const GroupPtr& saved) {
        return gather_from_sequence_parallel_region(
            grad, saved_dim, /*to_model_parallel=*/false, saved);
      },
      dim, group);
}

Tensor gather_from_sequence_autograd(DispatchKeySet keys, const Tensor& x,
                                     int64_t dim, bool to_model_parallel,
                                     std::string_view group,
                                     OptionalType reduce_dtype) {
  return differentiable<kGatherFromSequence>(
      keys, x, dim, group, reduce_dtype,
      to_model_parallel
          ? &transposed<&reduce_scatter_to_sequence_parallel_region>
          : &transposed<&scatter_to_sequence_parallel_region>,
      dim, to_model_parallel, group, reduce_dtype);
}

Tensor reduce_scatter_autograd(DispatchKeySet keys, const Tensor& x,
                               int64_t dim, std::string_view group) {
  return differentiable<kReduceScatterToSequence>(
      keys, x, dim, group, {},
      [](Tensor grad, int64_t saved_dim, const GroupPtr& saved) {
        return gather_from_sequence_parallel_region(
            grad, saved_dim, /*to_model_parallel=*/true, saved);
      },
      dim, group);
}

/// Whether a mapping over `group` is the identity, which needs no call.
bool needs_no_call(const Group& group) {
  return group.size() == 1 && !detail::is_recording();
}

/// Calls the op called `name`, where it is not the identity.
template <const char* const& name>
Tensor along_dim(const Tensor& x, int64_t dim, const GroupPtr& group) {
  const GroupPtr over = detail::resolve_group(group, name);
  detail::wrap_dim(x, dim, name);
  return needs_no_call(*over)
             ? x
             : op<name, int64_t, std::string_view>().call(x, dim, over->name());
}

TORCH_LIBRARY(colonnade, m) {
  m.def(
      "copy_to_tensor_model_parallel_region(Tensor(a) x, str group,"
      " ScalarType? reduce_dtype=None) -> Tensor(a)");
  m.def(
      "reduce_from_tensor_model_parallel_region(Tensor x, str group)"
      " -> Tensor");
  m.def(
      "reduce_from_tensor_model_parallel_region_(Tensor(a!) x, str group)"
      " -> Tensor(a!)");
  m.def(
      "scatter_to_tensor_model_parallel_region(Tensor x, int dim, str group)"
      " -> Tensor");
  m.def(
      "gather_from_tensor_model_parallel_region(Tensor x, int dim, str group)"
      " -> Tensor");
  m.def(
      "scatter_to_sequence_parallel_region(Tensor x, int dim, str group)"
      " -> Tensor");
  m.def(
      "gather_from_sequence_parallel_region(Tensor x, int dim,"
      " bool to_model_parallel, str group, ScalarType? reduce_dtype=None)"
      " -> Tensor");
  m.def(
      "reduce_scatter_to_sequence_parallel_region(Tensor x, int dim,"
      " str group) -> Tensor");
}

TORCH_LIBRARY_IMPL(colonnade, CompositeExplicitAutograd, m) {
  m.impl(kCopyTo, &copy_to_kernel);
  m.impl(kReduceFrom, &reduce_from_kernel);
  m.impl(kReduceFromInPlace, &reduce_in_place_kernel);
  m.impl(kScatterTo, &scatter_kernel<kScatterTo>);
  m.impl(kGatherFrom, &gather_from_kernel);
  m.impl(kScatterToSequence, &scatter_kernel<kScatterToSequence>);
  m.impl(kGatherFromSequence, &gather_from_sequence_kernel);
  m.impl(kReduceScatterToSequence, &reduce_scatter_kernel);
}

TORCH_LIBRARY_IMPL(colonnade, ADInplaceOrView, m) {
  m.impl(kCopyTo, &copy_to_view);
  m.impl(kReduceFromInPlace, &reduce_in_place_version);
}

TORCH_LIBRARY_IMPL(colonnade, Functionalize, m) {
  m.impl(kCopyTo, &copy_to_functional);
  m.impl(kReduceFromInPlace, &reduce_in_place_functional);
}

TORCH_LIBRARY_IMPL(colonnade, Autograd, m) {
  m.impl(kCopyTo, &copy_to_autograd);
  m.impl(kReduceFrom, &reduce_from_autograd);
  m.impl(kReduceFromInPlace, &reduce_in_place_autograd);
  m.impl(kScatterTo, &scatter_to_autograd);
  m.impl(kGatherFrom, &gather_from_autograd);
  m.impl(kScatterToSequence, &scatter_to_sequence_autograd);
  m.impl(kGatherFromSequence, &gather_from_sequence_autograd);
  m.impl(kReduceScatterToSequence, &reduce_scatter_autograd);
}

}  // namespace

Tensor copy_to_tensor_model_parallel_region(const Tensor& x,
                                            const GroupPtr& group,
                                            OptionalType reduce_dtype) {
  const GroupPtr over = detail::resolve_group(group, kCopyTo);
  return needs_no_call(*over)
             ? x
             : op<kCopyTo, std::string_view, OptionalType>().call(
                   x, over->name(), reduce_dtype);
}

Tensor reduce_from_tensor_model_parallel_region(const Tensor& x,
                                                const GroupPtr& group) {
  const GroupPtr over = detail::resolve_group(group, kReduceFrom);
  return needs_no_call(*over)
             ? x
             : op<kReduceFrom, std::string_view>().call(x, over->name());
}

Tensor detail::reduce_in_place(Tensor x, const GroupPtr& group) {
  return needs_no_call(*group) ? x
                               : reduce_in_place_op().call(x, group->name());
}

Tensor scatter_to_tensor_model_parallel_region(const Tensor& x, int64_t dim,
                                               const GroupPtr& group) {
  return along_dim<kScatterTo>(x, dim, group);
}

Tensor gather_from_tensor_model_parallel_region(const Tensor& x, int64_t dim,
                                                const GroupPtr& group) {
  return along_dim<kGatherFrom>(x, dim, group);
}

Tensor scatter_to_sequence_parallel_region(const Tensor& x,
                                           int64_t sequence_dimension,
                                           const GroupPtr& group) {
  return along_dim<kScatterToSequence>(x, sequence_dimension, group);
}

Tensor gather_from_sequence_parallel_region(const Tensor& x,
                                            int64_t sequence_dimension,
                                            bool to_model_parallel,
                                            const GroupPtr& group,
                                            OptionalType reduce_dtype) {
  const GroupPtr over = detail::resolve_group(group, kGatherFromSequence);
  detail::wrap_dim(x, sequence_dimension, kGatherFromSequence);
  if (needs_no_call(*over)) {
    return x;
  }
  return op<kGatherFromSequence, int64_t, bool, std::string_view,
            OptionalType>()
      .call(x, sequence_dimension, to_model_parallel, over->name(),
            reduce_dtype);
}

Tensor reduce_scatter_to_sequence_parallel_region(const Tensor& x,
                                                  int64_t sequence_dimension,
                                                  const GroupPtr& group) {
  return along_dim<kReduceScatterToSequence>(x, sequence_dimension, group);
}

}  // namespace colonnade::parallel_layers

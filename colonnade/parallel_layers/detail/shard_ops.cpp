// colonnade/parallel_layers/detail/shard_ops.cpp
#include "colonnade/parallel_layers/detail/shard_ops.h"

#include "colonnade/comm/rank_context.h"
#include "colonnade/core/error.h"
#include "colonnade/parallel_layers/detail/dim_collectives.h"
#include "colonnade/parallel_layers/detail/saved_context.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/_assert_async.h>
#include <ATen/ops/aminmax.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/embedding_dense_backward.h>
#include <c10/util/SmallVector.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/library.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace colonnade::parallel_layers::detail {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

int64_t rank_in(std::string_view group) {
  return RankContext::current()->group(group)->rank();
}

int64_t first_row(int64_t rows, bool rows_are_split, std::string_view group) {
  return rows_are_split ? rank_in(group) * rows : 0;
}

/// How many of this rank's `x.size(dim)` indices are within the whole.
int64_t held_size(const Tensor& x, int64_t dim, int64_t whole_size,
                  std::string_view group) {
  const int64_t local = x.size(dim);
  return std::clamp<int64_t>(whole_size - rank_in(group) * local, 0, local);
}

/// Zeros from index `held` of `dim` on.
Tensor keep_front(const Tensor& x, int64_t dim, int64_t held) {
  std::vector<int64_t> padding(2 * (x.dim() - dim), 0);
  padding.back() = x.size(dim) - held;
  return at::constant_pad_nd(x.narrow(dim, 0, held), padding);
}

Tensor zero_padding_kernel(const Tensor& x, int64_t dim, int64_t whole_size,
                           std::string_view group) {
  dim = wrap_dim(x, dim, "zero_padding");
  return keep_front(x, dim, held_size(x, dim, whole_size, group));
}

Tensor call_zero_padding(const Tensor& x, int64_t dim, int64_t whole_size,
                         std::string_view group) {
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("colonnade::zero_padding", "")
          .typed<Tensor(const Tensor&, int64_t, int64_t, std::string_view)>();
  return op.call(x, dim, whole_size, group);
}

struct ZeroPaddingFunction : torch::autograd::Function<ZeroPaddingFunction> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, int64_t dim,
                        int64_t whole_size, std::string_view group) {
    ctx->saved_data["dim"] = dim;
    ctx->saved_data["whole_size"] = whole_size;
    ctx->saved_data["group"] = std::string(group);
    save_context(ctx);
    const at::AutoDispatchBelowADInplaceOrView below;
    return call_zero_padding(x, dim, whole_size, group);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    if (!grads[0].defined()) {
      return variable_list(4);
    }
    const SavedContextScope scope(ctx);
    return {call_zero_padding(grads[0], ctx->saved_data["dim"].toInt(),
                              ctx->saved_data["whole_size"].toInt(),
                              ctx->saved_data["group"].toStringRef()),
            Tensor(), Tensor(), Tensor()};
  }
};

Tensor zero_padding_autograd(const Tensor& x, int64_t dim, int64_t whole_size,
                             std::string_view group) {
  if (torch::autograd::compute_requires_grad(x)) {
    return ZeroPaddingFunction::apply(x, dim, whole_size, group);
  }
  const at::AutoDispatchBelowADInplaceOrView below;
  return call_zero_padding(x, dim, whole_size, group);
}

void check_ids(const Tensor& ids, int64_t num_embeddings) {
  check_arg(ids.scalar_type() == at::kLong || ids.scalar_type() == at::kInt,
            "ParallelEmbedding: ids are ", ids.scalar_type(),
            "; expected Int or Long");
  if (ids.is_meta() || ids.numel() == 0) {
    return;
  }
  if (!ids.is_cpu()) {
    at::_assert_async(ids.ge(0).logical_and_(ids.lt(num_embeddings)).all(),
                      "ParallelEmbedding: an id is out of range");
    return;
  }
  const auto [low, high] = at::aminmax(ids);
  const int64_t least = low.item<int64_t>();
  const int64_t id = least < 0 ? least : high.item<int64_t>();
  check_arg(0 <= id && id < num_embeddings, "ParallelEmbedding: id ", id,
            " is outside [0, ", num_embeddings, ")");
}

/// Ids as rows of one rank's part; `elsewhere` marks those of other ranks, as
/// row 0, and is undefined where the part is the whole table.
struct LocalIds {
  Tensor ids;
  Tensor elsewhere;
};

LocalIds local_ids(const Tensor& ids, int64_t first, int64_t rows,
                   int64_t num_embeddings) {
  if (first == 0 && rows >= num_embeddings) {
    return {ids, Tensor()};
  }
  Tensor local = ids - first;
  Tensor elsewhere = local.lt(0).logical_or_(local.ge(rows));
  local.masked_fill_(elsewhere, 0);
  return {std::move(local), std::move(elsewhere)};
}

Tensor vocab_embedding_kernel(const Tensor& weight, const Tensor& ids,
                              int64_t num_embeddings,
                              std::optional<int64_t> /*padding_idx*/,
                              bool rows_are_split, std::string_view group) {
  check_ids(ids, num_embeddings);
  if (weight.is_meta()) {  // torch has no embedding there
    c10::SmallVector<int64_t, 6> shape(ids.sizes().begin(), ids.sizes().end());
    shape.push_back(weight.size(1));
    return weight.new_empty(shape);
  }
  const int64_t rows = weight.size(0);
  const LocalIds local = local_ids(ids, first_row(rows, rows_are_split, group),
                                   rows, num_embeddings);
  Tensor y = at::embedding(weight, local.ids);
  if (local.elsewhere.defined()) {
    y.masked_fill_(local.elsewhere.unsqueeze(-1), 0);
  }
  return y;
}

Tensor call_vocab_embedding(const Tensor& weight, const Tensor& ids,
                            int64_t num_embeddings,
                            std::optional<int64_t> padding_idx,
                            bool rows_are_split, std::string_view group) {
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("colonnade::vocab_embedding", "")
          .typed<Tensor(const Tensor&, const Tensor&, int64_t,
                        std::optional<int64_t>, bool, std::string_view)>();
  return op.call(weight, ids, num_embeddings, padding_idx, rows_are_split,
                 group);
}

/// The gradient of this rank's rows, in ops that can be differentiated again.
///
/// grad  [ids..., embedding_dim]
Tensor vocab_embedding_backward_kernel(const Tensor& grad, const Tensor& ids,
                                       int64_t rows, int64_t num_embeddings,
                                       std::optional<int64_t> padding_idx,
                                       bool rows_are_split,
                                       std::string_view group) {
  const LocalIds local = local_ids(ids, first_row(rows, rows_are_split, group),
                                   rows, num_embeddings);
  Tensor drop = local.elsewhere;
  if (padding_idx.has_value()) {
    const Tensor padding = ids.eq(*padding_idx);
    drop = drop.defined() ? drop.logical_or(padding) : padding;
  }
  const Tensor kept =
      drop.defined() ? grad.masked_fill(drop.unsqueeze(-1), 0) : grad;
  return at::embedding_dense_backward(kept, local.ids, rows,
                                      /*padding_idx=*/-1,
                                      /*scale_grad_by_freq=*/false);
}

Tensor call_vocab_embedding_backward(const Tensor& grad, const Tensor& ids,
                                     int64_t rows, int64_t num_embeddings,
                                     std::optional<int64_t> padding_idx,
                                     bool rows_are_split,
                                     std::string_view group) {
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("colonnade::vocab_embedding_backward", "")
          .typed<decltype(vocab_embedding_backward_kernel)>();
  return op.call(grad, ids, rows, num_embeddings, padding_idx, rows_are_split,
                 group);
}

struct VocabEmbeddingFunction
    : torch::autograd::Function<VocabEmbeddingFunction> {
  static Tensor forward(AutogradContext* ctx, const Tensor& weight,
                        const Tensor& ids, int64_t num_embeddings,
                        std::optional<int64_t> padding_idx, bool rows_are_split,
                        std::string_view group) {
    ctx->save_for_backward({ids});
    ctx->saved_data["rows"] = weight.size(0);
    ctx->saved_data["num_embeddings"] = num_embeddings;
    ctx->saved_data["padding_idx"] = padding_idx;
    ctx->saved_data["rows_are_split"] = rows_are_split;
    ctx->saved_data["group"] = std::string(group);
    save_context(ctx);
    const at::AutoDispatchBelowADInplaceOrView below;
    return call_vocab_embedding(weight, ids, num_embeddings, padding_idx,
                                rows_are_split, group);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    variable_list input_grads(6);
    if (!grads[0].defined()) {
      return input_grads;
    }
    const SavedContextScope scope(ctx);
    // One op, which reads the rank inside, but for second derivatives.
    const auto backward_of = at::GradMode::is_enabled()
                                 ? &vocab_embedding_backward_kernel
                                 : &call_vocab_embedding_backward;
    input_grads[0] =
        backward_of(grads[0], ctx->get_saved_variables()[0],
                    ctx->saved_data["rows"].toInt(),
                    ctx->saved_data["num_embeddings"].toInt(),
                    ctx->saved_data["padding_idx"].toOptional<int64_t>(),
                    ctx->saved_data["rows_are_split"].toBool(),
                    ctx->saved_data["group"].toStringRef());
    return input_grads;
  }
};

Tensor vocab_embedding_autograd(const Tensor& weight, const Tensor& ids,
                                int64_t num_embeddings,
                                std::optional<int64_t> padding_idx,
                                bool rows_are_split, std::string_view group) {
  if (torch::autograd::compute_requires_grad(weight)) {
    return VocabEmbeddingFunction::apply(weight, ids, num_embeddings,
                                         padding_idx, rows_are_split, group);
  }
  const at::AutoDispatchBelowADInplaceOrView below;
  return call_vocab_embedding(weight, ids, num_embeddings, padding_idx,
                              rows_are_split, group);
}

TORCH_LIBRARY_FRAGMENT(colonnade, m) {
  m.def("zero_padding(Tensor x, int dim, int whole_size, str group) -> Tensor");
  m.def(
      "vocab_embedding(Tensor weight, Tensor ids, int num_embeddings,"
      " int? padding_idx, bool rows_are_split,"
      " str group) -> Tensor");
  m.def(
      "vocab_embedding_backward(Tensor grad, Tensor ids, int rows,"
      " int num_embeddings, int? padding_idx, bool rows_are_split,"
      " str group) -> Tensor");
}

TORCH_LIBRARY_IMPL(colonnade, CompositeExplicitAutograd, m) {
  m.impl("zero_padding", &zero_padding_kernel);
  m.impl("vocab_embedding", &vocab_embedding_kernel);
  m.impl("vocab_embedding_backward", &vocab_embedding_backward_kernel);
}

TORCH_LIBRARY_IMPL(colonnade, Autograd, m) {
  m.impl("zero_padding", &zero_padding_autograd);
  m.impl("vocab_embedding", &vocab_embedding_autograd);
}

}  // namespace

Tensor zero_padding(const Tensor& x, int64_t dim, int64_t whole_size,
                    const GroupPtr& group) {
  return call_zero_padding(x, dim, whole_size, group->name());
}

Tensor vocab_embedding(const Tensor& weight, const Tensor& ids,
                       int64_t num_embeddings,
                       std::optional<int64_t> padding_idx, bool rows_are_split,
                       const GroupPtr& group) {
  return call_vocab_embedding(weight, ids, num_embeddings, padding_idx,
                              rows_are_split, group->name());
}

}  // namespace colonnade::parallel_layers::detail

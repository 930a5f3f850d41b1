// colonnade/parallel_layers/cross_entropy.cpp
#include "colonnade/parallel_layers/cross_entropy.h"

#include "colonnade/comm/call_site.h"
#include "colonnade/comm/rank_context.h"
#include "colonnade/core/error.h"
#include "colonnade/parallel_layers/detail/resolve_group.h"
#include "colonnade/parallel_layers/detail/saved_context.h"
#include "colonnade/parallel_layers/detail/vocab_rows.h"
#include "colonnade/parallel_layers/mappings.h"

#include <ATen/ATen.h>
#include <ATen/OpMathType.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>
#include <limits>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

namespace colonnade::parallel_layers {
namespace {

using at::Tensor;
using detail::VocabPart;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// The scalar arguments of the loss, as its ops pass them on.
struct LossOptions {
  double label_smoothing;
  int64_t ignore_index;
  int64_t vocab_size;  // whole
};

/// The part of a whole vocabulary in `local` columns of one rank.
VocabPart vocab_part(int64_t vocab_size, int64_t local, int64_t rank) {
  const int64_t begin = std::min(vocab_size, rank * local);
  return {begin, std::min(local, vocab_size - begin)};
}

/// The calling rank's part. Read inside the ops: a graph that torch.compile
/// made of them on one rank is run by the others too.
VocabPart own_part(int64_t vocab_size, const Tensor& logits,
                   std::string_view group) {
  return vocab_part(vocab_size, logits.size(-1),
                    RankContext::current()->group(group)->rank());
}

at::ScalarType sum_dtype(const Tensor& logits) {
  return at::toOpMathType(logits.scalar_type());
}

Tensor as_rows(const Tensor& logits) {
  return logits.reshape({-1, logits.size(-1)}).contiguous();
}

Tensor flat_target(const Tensor& target) {
  return target.reshape(-1).to(at::kLong).contiguous();
}

/// The whole vocabulary's size, once all arguments are known to be right.
int64_t check_arguments(const Tensor& logits, const Tensor& target,
                        const LossOptions& options, int64_t ranks) {
  constexpr const char* kSubject = "parallel_cross_entropy: ";
  check_arg(logits.dim() >= 1 && at::isFloatingType(logits.scalar_type()),
            kSubject, "logits are ", logits.scalar_type(), " of shape ",
            logits.sizes(),
            "; they must be floating, [..., vocabulary of this rank]");
  check_arg(target.sizes() == logits.sizes().slice(0, logits.dim() - 1),
            kSubject, "the target's shape ", target.sizes(),
            " does not fit logits of shape ", logits.sizes(),
            "; it has one index for each row of logits");
  check_arg(at::isIntegralType(target.scalar_type(), /*includeBool=*/false),
            kSubject, "targets are ", target.scalar_type(),
            "; they must be integers");
  check_arg(target.device() == logits.device(), kSubject, "logits are on ",
            logits.device(), ", the target on ", target.device());
  check_arg(0 <= options.label_smoothing && options.label_smoothing <= 1,
            kSubject, "label_smoothing ", options.label_smoothing,
            " is outside [0, 1]");
  const int64_t local = logits.size(-1);
  const int64_t whole =
      options.vocab_size == -1 ? ranks * local : options.vocab_size;
  check_arg(whole >= 1 && detail::round_up(whole, ranks) == ranks * local,
            kSubject, "vocab_size ", whole, " over ", ranks, " ranks is ",
            detail::round_up(std::max<int64_t>(whole, 0), ranks) / ranks,
            " columns a rank, but logits have shape ", logits.sizes());
  if (target.is_meta()) {
    return whole;
  }
  // The limits may be beyond a narrow type of targets.
  const Tensor ids = target.to(at::kLong);
  const Tensor bad = ids.ne(options.ignore_index)
                         .logical_and_(ids.lt(0).logical_or_(ids.ge(whole)));
  if (bad.any().item<bool>()) {
    throw InvalidArgument(concat(
        kSubject, "target ", ids.masked_select(bad)[0].item<int64_t>(),
        " is outside the vocabulary [0, ", whole,
        "); targets without a loss are ignore_index, ", options.ignore_index));
  }
  return whole;
}

/// A row's largest logit as what is taken off its logits before exp.
Tensor shift_of(const Tensor& largest) {
  return largest.masked_fill(largest.eq(-kInfinity), 0);
}

/// vocab_statistics in ops of torch, for every device.
void vocab_statistics_by_ops(Tensor& statistics, const Tensor& logits,
                             const Tensor& target, VocabPart part,
                             bool with_sum_shifted) {
  statistics.zero_();
  statistics[detail::kLargest].fill_(-kInfinity);
  if (part.held == 0) {
    return;
  }
  const Tensor x = logits.narrow(1, 0, part.held).to(statistics.dtype());
  const Tensor largest = x.amax(1);
  const Tensor shifted = x - shift_of(largest).unsqueeze(1);
  const Tensor column = target - part.begin;
  const Tensor here = column.ge(0).logical_and_(column.lt(part.held));
  const Tensor found =
      x.gather(1, column.clamp(0, part.held - 1).unsqueeze(1)).squeeze(1);
  statistics[detail::kLargest].copy_(largest);
  statistics[detail::kSumExp].copy_(shifted.exp().sum(1));
  statistics[detail::kTargetLogit].copy_(found.masked_fill(~here, 0));
  if (with_sum_shifted) {
    statistics[detail::kSumShifted].copy_(shifted.sum(1));
  }
}

/// Every rank's statistics, [ranks, kept, rows].
Tensor gather_statistics(const Tensor& statistics, Group& group) {
  if (group.size() == 1) {
    return statistics.unsqueeze(0);
  }
  Tensor all = at::empty({group.size(), statistics.size(0), statistics.size(1)},
                         statistics.options());
  if (!statistics.is_meta()) {
    group.all_gather(all, statistics);
  }
  return all;
}

using StatisticsFunction = void (*)(Tensor&, const Tensor&, const Tensor&,
                                    VocabPart, bool);

/// The loss of each token, and for backward the rows' shifts and sums of exp,
/// [2, rows].
template <StatisticsFunction statistics_function>
std::tuple<Tensor, Tensor> forward_kernel(
    const Tensor& logits, const Tensor& target, double label_smoothing,
    int64_t ignore_index, int64_t vocab_size, std::string_view group_name) {
  Group& group = *RankContext::current()->group(group_name);
  const int64_t whole = check_arguments(
      logits, target, {label_smoothing, ignore_index, vocab_size},
      group.size());
  const int64_t local = logits.size(-1);
  const Tensor x = as_rows(logits);
  const Tensor flat = flat_target(target);
  const bool smooth = label_smoothing > 0;
  // Without smoothing the last statistic stays at home.
  const int64_t kept = smooth ? detail::kVocabStatistics : detail::kSumShifted;
  Tensor statistics = at::empty({detail::kVocabStatistics, x.size(0)},
                                x.options().dtype(sum_dtype(x)));
  statistics_function(statistics, x, flat,
                      vocab_part(whole, local, group.rank()), smooth);
  const Tensor all = gather_statistics(statistics.narrow(0, 0, kept), group);

  const Tensor largest = all.select(1, detail::kLargest);
  const Tensor shift = shift_of(largest.amax(0));
  const Tensor sum_exp =
      (largest - shift).exp_().mul_(all.select(1, detail::kSumExp)).sum(0);
  const Tensor target_logit = all.select(1, detail::kTargetLogit).sum(0);
  Tensor loss = sum_exp.log().add_(shift - target_logit, 1 - label_smoothing);
  if (smooth) {
    std::vector<double> held;
    for (int64_t rank = 0; rank < group.size(); ++rank) {
      held.push_back(static_cast<double>(vocab_part(whole, local, rank).held));
    }
    const Tensor columns = at::tensor(held, all.options()).unsqueeze(1);
    const Tensor sum_shifted = all.select(1, detail::kSumShifted) +
                               (shift_of(largest) - shift).mul_(columns);
    loss.sub_(sum_shifted.sum(0), label_smoothing / static_cast<double>(whole));
  }
  loss.masked_fill_(flat.eq(ignore_index), 0);
  return {loss.reshape(target.sizes()), at::stack({shift, sum_exp})};
}

/// The gradient of `logits`, in ops of torch. `sum_exp` is over the whole
/// vocabulary.
Tensor gradient_by_ops(const Tensor& grad, const Tensor& logits,
                       const Tensor& target, const Tensor& shifted_exp,
                       const Tensor& sum_exp, const LossOptions& options,
                       VocabPart part) {
  const Tensor ignored = target.eq(options.ignore_index);
  const Tensor g = grad.masked_fill(ignored, 0);
  const Tensor column = target - part.begin;
  const Tensor elsewhere = column.lt(0).logical_or_(column.ge(part.held));
  const Tensor weight =
      (g * (options.label_smoothing - 1)).masked_fill(elsewhere, 0);
  Tensor result = shifted_exp * (g / sum_exp).unsqueeze(1);
  if (options.label_smoothing > 0) {
    result = result - (g * (options.label_smoothing /
                            static_cast<double>(options.vocab_size)))
                          .unsqueeze(1);
  }
  result = result.masked_fill(ignored.unsqueeze(1), 0);
  if (part.held > 0) {
    result = result.scatter_add(1, column.clamp(0, part.held - 1).unsqueeze(1),
                                weight.unsqueeze(1));
  }
  return at::constant_pad_nd(result, {0, logits.size(-1) - part.held})
      .to(logits.scalar_type())
      .reshape(logits.sizes());
}

/// exp(logit - shift) of the logits that this rank holds.
Tensor shifted_exp(const Tensor& logits, const Tensor& shift, VocabPart part) {
  return (logits.reshape({-1, logits.size(-1)})
              .narrow(1, 0, part.held)
              .to(shift.scalar_type()) -
          shift.unsqueeze(1))
      .exp();
}

Tensor backward_by_ops_kernel(const Tensor& grad, const Tensor& logits,
                              const Tensor& target, const Tensor& rows,
                              double label_smoothing, int64_t ignore_index,
                              int64_t vocab_size, std::string_view group) {
  const VocabPart part = own_part(vocab_size, logits, group);
  return gradient_by_ops(grad.reshape(-1), logits, flat_target(target),
                         shifted_exp(logits, rows[0], part), rows[1],
                         {label_smoothing, ignore_index, vocab_size}, part);
}

Tensor backward_kernel(const Tensor& grad, const Tensor& logits,
                       const Tensor& target, const Tensor& rows,
                       double label_smoothing, int64_t ignore_index,
                       int64_t vocab_size, std::string_view group) {
  const Tensor x = as_rows(logits);
  const Tensor flat = flat_target(target);
  const Tensor g = grad.reshape(-1);
  Tensor numbers =
      at::empty({detail::kGradientNumbers, x.size(0)}, rows.options());
  numbers[detail::kShift].copy_(rows[0]);
  numbers[detail::kScale].copy_(g / rows[1]);
  numbers[detail::kOffset].copy_(
      g * (label_smoothing / static_cast<double>(vocab_size)));
  numbers[detail::kTargetWeight].copy_(g * (1 - label_smoothing));
  Tensor result = at::empty_like(x);
  detail::vocab_gradient(result, x, flat, numbers, flat.eq(ignore_index),
                         own_part(vocab_size, logits, group));
  return result.reshape(logits.sizes());
}

constexpr const char* kForward = "colonnade::parallel_cross_entropy";
constexpr const char* kBackward = "colonnade::parallel_cross_entropy_backward";

auto& forward_op() {
  static auto op = c10::Dispatcher::singleton()
                       .findSchemaOrThrow(kForward, "")
                       .typed<std::tuple<Tensor, Tensor>(
                           const Tensor&, const Tensor&, double, int64_t,
                           int64_t, std::string_view)>();
  return op;
}

auto& backward_op() {
  static auto op = c10::Dispatcher::singleton()
                       .findSchemaOrThrow(kBackward, "")
                       .typed<decltype(backward_kernel)>();
  return op;
}

struct ParallelCrossEntropy : torch::autograd::Function<ParallelCrossEntropy> {
  static variable_list forward(AutogradContext* ctx, const Tensor& logits,
                               const Tensor& target, double label_smoothing,
                               int64_t ignore_index, int64_t vocab_size,
                               const std::string& group) {
    const at::AutoDispatchBelowADInplaceOrView below;
    auto [loss, rows] = forward_op().call(logits, target, label_smoothing,
                                          ignore_index, vocab_size, group);
    ctx->save_for_backward({logits, target, rows});
    ctx->mark_non_differentiable({rows});
    ctx->set_materialize_grads(false);
    ctx->saved_data["label_smoothing"] = label_smoothing;
    ctx->saved_data["ignore_index"] = ignore_index;
    ctx->saved_data["vocab_size"] = vocab_size;
    ctx->saved_data["group"] = group;
    detail::save_context(ctx);
    return {loss, rows};
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const Tensor& grad = grads[0];
    Tensor result;
    if (grad.defined()) {
      const auto saved = ctx->get_saved_variables();
      const detail::SavedContextScope scope(ctx);
      result = gradient(ctx, grad, saved[0], saved[1], saved[2]);
    }
    return {result, {}, {}, {}, {}, {}};
  }

 private:
  static Tensor gradient(AutogradContext* ctx, const Tensor& grad,
                         const Tensor& logits, const Tensor& target,
                         const Tensor& rows) {
    const GroupPtr& group =
        RankContext::current()->group(ctx->saved_data["group"].toStringRef());
    LossOptions options{ctx->saved_data["label_smoothing"].toDouble(),
                        ctx->saved_data["ignore_index"].toInt(),
                        ctx->saved_data["vocab_size"].toInt()};
    const int64_t local = logits.size(-1);
    if (options.vocab_size == -1) {
      options.vocab_size = group->size() * local;
    }
    const VocabPart part = vocab_part(options.vocab_size, local, group->rank());
    if (!at::GradMode::is_enabled()) {
      return backward_op().call(grad, logits, target, rows,
                                options.label_smoothing, options.ignore_index,
                                options.vocab_size, group->name());
    }
    // For second derivatives: the same in differentiable ops. The result does
    // not depend on the shift, which is thus a constant.
    const Tensor e = shifted_exp(logits, rows[0], part);
    const Tensor sum_exp = copy_to_tensor_model_parallel_region(
        reduce_from_tensor_model_parallel_region(e.sum(1), group), group);
    const Tensor g =
        copy_to_tensor_model_parallel_region(grad.reshape(-1), group);
    return gradient_by_ops(g, logits, flat_target(target), e, sum_exp, options,
                           part);
  }
};

std::tuple<Tensor, Tensor> autograd_kernel(
    const Tensor& logits, const Tensor& target, double label_smoothing,
    int64_t ignore_index, int64_t vocab_size, std::string_view group) {
  variable_list out =
      ParallelCrossEntropy::apply(logits, target, label_smoothing, ignore_index,
                                  vocab_size, std::string(group));
  return {out[0], out[1]};
}

TORCH_LIBRARY_FRAGMENT(colonnade, m) {
  m.def(
      "parallel_cross_entropy(Tensor logits, Tensor target, "
      "float label_smoothing, int ignore_index, int vocab_size, str group) "
      "-> (Tensor loss, Tensor rows)");
  m.def(
      "parallel_cross_entropy_backward(Tensor grad, Tensor logits, "
      "Tensor target, Tensor rows, float label_smoothing, int ignore_index, "
      "int vocab_size, str group) -> Tensor");
}

TORCH_LIBRARY_IMPL(colonnade, CPU, m) {
  m.impl("parallel_cross_entropy",
         TORCH_FN(forward_kernel<&detail::vocab_statistics>));
  m.impl("parallel_cross_entropy_backward", TORCH_FN(backward_kernel));
}

TORCH_LIBRARY_IMPL(colonnade, CompositeExplicitAutograd, m) {
  m.impl("parallel_cross_entropy",
         TORCH_FN(forward_kernel<&vocab_statistics_by_ops>));
  m.impl("parallel_cross_entropy_backward", TORCH_FN(backward_by_ops_kernel));
}

TORCH_LIBRARY_IMPL(colonnade, Autograd, m) {
  m.impl("parallel_cross_entropy", TORCH_FN(autograd_kernel));
}

}  // namespace

Tensor parallel_cross_entropy(const Tensor& logits, const Tensor& target,
                              double label_smoothing, int64_t ignore_index,
                              int64_t vocab_size, const GroupPtr& group) {
  const GroupPtr resolved =
      detail::resolve_group(group, "parallel_cross_entropy");
  const CallSiteScope site(CallSite("parallel_cross_entropy"));
  return std::get<0>(forward_op().call(logits, target, label_smoothing,
                                       ignore_index, vocab_size,
                                       resolved->name()));
}

}  // namespace colonnade::parallel_layers

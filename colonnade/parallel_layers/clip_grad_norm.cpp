// colonnade/parallel_layers/clip_grad_norm.cpp
#include "colonnade/parallel_layers/clip_grad_norm.h"

#include "colonnade/comm/call_site.h"
#include "colonnade/comm/rank_context.h"
#include "colonnade/core/error.h"
#include "colonnade/parallel_layers/detail/counted_ranges.h"
#include "colonnade/parallel_state/parallel_state.h"
#include "colonnade/sharding/attributes.h"

#include <ATen/ATen.h>
#include <ATen/OpMathType.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/ScalarType.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string>
#include <unordered_set>
#include <utility>

namespace colonnade::parallel_layers {
namespace {

using at::Tensor;
using detail::HeldShard;

constexpr const char* kSubject = "clip_grad_norm: ";

/// A distinct parameter, with its gradient (undefined where it has none).
struct Parameter {
  Tensor gradient;
  std::optional<TensorParallelAttributes> attributes;
};

/// Tied parameters, and those that share a gradient, once.
std::vector<Parameter> distinct(const std::vector<Tensor>& parameters) {
  std::vector<Parameter> result;
  std::unordered_set<const c10::TensorImpl*> seen;
  for (size_t i = 0; i < parameters.size(); ++i) {
    const Tensor& parameter = parameters[i];
    check_arg(parameter.defined(), kSubject, "parameter ", i, " of ",
              parameters.size(), " is undefined");
    const Tensor& gradient = parameter.grad();
    check_arg(!gradient.defined() || gradient.layout() == at::kStrided,
              kSubject, "parameter ", i, " of shape ", parameter.sizes(),
              " has a sparse gradient; make it dense");
    const bool is_new = seen.insert(parameter.unsafeGetTensorImpl()).second;
    const bool gradient_is_new =
        !gradient.defined() ||
        seen.insert(gradient.unsafeGetTensorImpl()).second;
    if (is_new && gradient_is_new) {
      result.push_back({gradient, get_tensor_parallel_attributes(parameter)});
    }
  }
  return result;
}

/// The norm of many tensors, in double. fp32 sums run over a thousand elements
/// at most, as torch's own are off by a percent where a tensor has 2^24.
class Norm {
 public:
  Norm(double p, at::Device device) : p_(p), device_(device) {}

  void add(const Tensor& x) {
    constexpr int64_t kRun = 1024;
    const Tensor flat = x.reshape(-1);
    const int64_t even = flat.numel() / kRun * kRun;
    if (even > 0) {
      add_rows(flat.narrow(0, 0, even).view({-1, kRun}));
    }
    if (even < flat.numel()) {
      add_rows(flat.narrow(0, even, flat.numel() - even).unsqueeze(0));
    }
  }

  Tensor value() const {
    if (norms_.empty()) {
      return at::zeros({}, at::TensorOptions(device_).dtype(at::kDouble));
    }
    return at::linalg_vector_norm(at::cat(norms_), p_);
  }

 private:
  void add_rows(const Tensor& rows) {
    const bool usual = p_ == 1 || p_ == 2 || std::isinf(p_);
    // Other powers would leave the range of fp32.
    const at::ScalarType dtype =
        usual ? at::toOpMathType(rows.scalar_type()) : at::kDouble;
    norms_.push_back(at::linalg_vector_norm(rows, p_, {1}, false, dtype)
                         .to(device_, at::kDouble));
  }

  double p_;
  at::Device device_;
  std::vector<Tensor> norms_;
};

/// Adds to `norm` the `ranges` (whole indices that `spec` holds) of a shard.
void add_ranges(Norm& norm, const Tensor& gradient, const ShardSpec& spec,
                const std::vector<IndexRange>& ranges) {
  for (const IndexRange& range : ranges) {
    if (range.size() == gradient.size(spec.dim)) {
      norm.add(gradient);
    } else {
      norm.add(gradient.narrow(spec.dim, detail::local_index(spec, range.begin),
                               range.size()));
    }
  }
}

/// A group's part in the norm, and the sharded parameters that it splits.
class GroupNorm {
 public:
  GroupNorm(GroupPtr group, double p, at::Device device)
      : group_(std::move(group)), p_(p), device_(device) {}

  const std::string& name() const { return group_->name(); }

  void add(const Parameter& parameter) { parameters_.push_back(&parameter); }

  /// The norm over the whole group of what add() was given, and of gradients
  /// that all ranks have alike: `replicated` is this rank's norm of those.
  /// Collective.
  ///
  /// Output  [2], double: sharded and replicated
  Tensor reduce(const Tensor& replicated) const {
    // A part that several ranks hold is rare, and takes a second exchange.
    // Whether one is needed travels with the norms, as all ranks must agree.
    const Tensor overlap = at::full({}, may_overlap(), replicated.options());
    Tensor all =
        gather(at::stack({norm_of(own_ranges()), replicated, overlap}));
    Tensor sharded = all.select(1, 0);
    if (all.select(1, 2).any().item<bool>()) {
      sharded = gather(norm_of(detail::counted_ranges(*group_, own_shards())));
    }
    return at::stack(
        {at::linalg_vector_norm(sharded, p_), all.select(1, 1).amax()});
  }

 private:
  bool may_overlap() const {
    return std::any_of(
        parameters_.begin(), parameters_.end(), [&](const Parameter* p) {
          return !detail::is_disjoint(p->attributes->spec, group_->rank(),
                                      group_->size());
        });
  }

  std::vector<HeldShard> own_shards() const {
    std::vector<HeldShard> shards;
    for (const Parameter* p : parameters_) {
      shards.push_back({p->gradient.defined(), p->attributes->spec.ranges});
    }
    return shards;
  }

  std::vector<std::vector<IndexRange>> own_ranges() const {
    std::vector<std::vector<IndexRange>> ranges;
    for (const Parameter* p : parameters_) {
      ranges.push_back(p->attributes->spec.ranges);
    }
    return ranges;
  }

  /// Over the parameters' `ranges`.
  Tensor norm_of(const std::vector<std::vector<IndexRange>>& ranges) const {
    Norm norm(p_, device_);
    for (size_t i = 0; i < parameters_.size(); ++i) {
      if (parameters_[i]->gradient.defined()) {
        add_ranges(norm, parameters_[i]->gradient,
                   parameters_[i]->attributes->spec, ranges[i]);
      }
    }
    return norm.value();
  }

  /// Every rank's `x`, [ranks, ...].
  Tensor gather(const Tensor& x) const {
    std::vector<int64_t> shape = x.sizes().vec();
    shape.insert(shape.begin(), group_->size());
    Tensor all = at::empty(shape, x.options());
    group_->all_gather(all, x);
    return all;
  }

  GroupPtr group_;
  double p_;
  at::Device device_;
  std::vector<const Parameter*> parameters_;
};

/// One for the tensor-parallel group, where there is one, and one for each
/// further group that splits a parameter. Ranks make them in the same order.
std::vector<GroupNorm> group_norms(const std::vector<Parameter>& parameters,
                                   double p, at::Device device) {
  const RankContextPtr& context = RankContext::current();
  std::vector<GroupNorm> result;
  if (GroupPtr tp =
          context->find_group(parallel_state::kTensorModelParallelGroup)) {
    result.emplace_back(std::move(tp), p, device);
  }
  for (const Parameter& parameter : parameters) {
    if (!parameter.attributes) {
      continue;
    }
    const std::string& name = parameter.attributes->group;
    auto place = std::find_if(
        result.begin(), result.end(),
        [&](const GroupNorm& group) { return group.name() == name; });
    if (place == result.end()) {
      result.emplace_back(context->group(name), p, device);
      place = result.end() - 1;
    }
    place->add(parameter);
  }
  return result;
}

double total_norm(const std::vector<Parameter>& parameters, double p,
                  at::Device device) {
  Norm replicated(p, device);
  for (const Parameter& parameter : parameters) {
    if (!parameter.attributes && parameter.gradient.defined()) {
      replicated.add(parameter.gradient);
    }
  }
  std::vector<Tensor> parts;
  const std::vector<GroupNorm> groups = group_norms(parameters, p, device);
  for (const GroupNorm& group : groups) {
    parts.push_back(group.reduce(replicated.value()));
  }
  if (groups.empty()) {
    return replicated.value().item<double>();
  }
  // Each group has seen the replicated ones; the first one's answer counts.
  for (size_t i = 1; i < parts.size(); ++i) {
    parts[i] = parts[i].narrow(0, 0, 1);
  }
  return at::linalg_vector_norm(at::cat(parts), p).item<double>();
}

at::ScalarType norm_dtype(const std::vector<Tensor>& parameters) {
  if (parameters.empty()) {
    return at::kFloat;
  }
  at::ScalarType dtype = parameters[0].scalar_type();
  for (const Tensor& parameter : parameters) {
    dtype = c10::promoteTypes(dtype, parameter.scalar_type());
  }
  return c10::toRealValueType(dtype);
}

}  // namespace

Tensor clip_grad_norm(const std::vector<Tensor>& parameters, double max_norm,
                      double norm_type, bool error_if_nonfinite) {
  check_arg(norm_type > 0, kSubject, "norm_type ", norm_type,
            " is not a norm; it is above 0, or infinity");
  check_arg(max_norm >= 0, kSubject, "max_norm ", max_norm,
            " is negative or not a number");
  const CallSiteScope site(CallSite("clip_grad_norm"));
  const at::NoGradGuard no_grad;
  const std::vector<Parameter> all = distinct(parameters);
  const at::Device device =
      parameters.empty() ? at::Device(at::kCPU) : parameters[0].device();
  const double total = total_norm(all, norm_type, device);
  check_arg(!error_if_nonfinite || std::isfinite(total), kSubject,
            "the gradients' norm of order ", norm_type, " is ", total,
            "; pass error_if_nonfinite=false to scale by it all the same");
  const double factor = max_norm / (total + 1e-6);  // as torch has it
  if (!(factor >= 1) && !std::isinf(max_norm)) {
    std::vector<Tensor> gradients;
    for (const Parameter& parameter : all) {
      if (parameter.gradient.defined()) {
        gradients.push_back(parameter.gradient);
      }
    }
    if (!gradients.empty()) {
      at::_foreach_mul_(gradients, factor);
    }
  }
  return at::scalar_tensor(
      total, at::TensorOptions(device).dtype(norm_dtype(parameters)));
}

Tensor clip_grad_norm(const Tensor& parameter, double max_norm,
                      double norm_type, bool error_if_nonfinite) {
  return clip_grad_norm(std::vector<Tensor>{parameter}, max_norm, norm_type,
                        error_if_nonfinite);
}

}  // namespace colonnade::parallel_layers

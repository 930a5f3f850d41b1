// tests/testing/gradcheck.cpp
#include "tests/testing/gradcheck.h"

#include "tests/testing/expect.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/autograd.h>

namespace colonnade::testing {
namespace {

using at::Tensor;

constexpr double kStep = 1e-5;       // error of a central difference: step^2
constexpr double kTolerance = 1e-6;  // and rounding: 1e-16 / step

/// Numbers without pattern, other ones on each rank where asked.
Tensor weights_like(const Tensor& x, int64_t salt) {
  return at::arange(1, x.numel() + 1, x.options())
      .mul_(0.7)
      .add_(static_cast<double>(salt) * 1.3)
      .sin_()
      .view(x.sizes());
}

std::vector<Tensor> detached(const std::vector<Placed>& inputs) {
  std::vector<Tensor> tensors;
  for (const Placed& input : inputs) {
    tensors.push_back(
        input.tensor.detach().clone(at::MemoryFormat::Contiguous));
  }
  return tensors;
}

int64_t salt_of(Placement placement, const GroupPtr& group) {
  return placement == Placement::kPerRank ? 1 + group->rank() : 0;
}

/// The whole program's scalar.
double objective(const RankFunction& f, const std::vector<Tensor>& inputs,
                 const GroupPtr& group) {
  const at::AutoGradMode grad(true);  // f may take gradients
  const Tensor y = f.call(inputs).detach();
  Tensor sum = (y * weights_like(y, salt_of(f.output, group))).sum();
  if (f.output == Placement::kPerRank) {
    group->all_reduce(sum);
  }
  return sum.item<double>();
}

std::vector<Tensor> analytic(const RankFunction& f,
                             const std::vector<Placed>& inputs,
                             const GroupPtr& group) {
  std::vector<Tensor> leaves = detached(inputs);
  for (Tensor& leaf : leaves) {
    leaf.requires_grad_();
  }
  const Tensor y = f.call(leaves);
  return torch::autograd::grad(
      {y}, leaves, {weights_like(y.detach(), salt_of(f.output, group))},
      /*retain_graph=*/false, /*create_graph=*/false, /*allow_unused=*/true);
}

}  // namespace

void gradcheck(const RankFunction& f, const std::vector<Placed>& inputs,
               const GroupPtr& group, const std::string& what) {
  const std::vector<Tensor> grads = analytic(f, inputs, group);
  const std::vector<Tensor> points = detached(inputs);
  for (size_t i = 0; i < inputs.size(); ++i) {
    const bool replicated = inputs[i].placement == Placement::kReplicated;
    Tensor numeric = at::zeros_like(points[i]);
    for (int owner = 0; owner < (replicated ? 1 : group->size()); ++owner) {
      const bool mine = replicated || owner == group->rank();
      for (int64_t j = 0; j < points[i].numel(); ++j) {
        auto* value = points[i].data_ptr<double>() + j;
        const double kept = *value;
        double ends[2];
        for (const int side : {0, 1}) {
          *value = kept + (mine ? (side == 0 ? -kStep : kStep) : 0.0);
          ends[side] = objective(f, points, group);
        }
        *value = kept;
        if (mine) {
          numeric.data_ptr<double>()[j] = (ends[1] - ends[0]) / (2 * kStep);
        }
      }
    }
    expect_close(grads[i].defined() ? grads[i] : at::zeros_like(numeric),
                 numeric, kTolerance,
                 what + ", gradient of input " + std::to_string(i));
  }
}

void gradgradcheck(const RankFunction& f, const std::vector<Placed>& inputs,
                   const GroupPtr& group, const std::string& what) {
  const Tensor y = f.call(detached(inputs)).detach();
  std::vector<Placed> points = inputs;
  points.push_back({weights_like(y, 5 + salt_of(f.output, group)), f.output});
  for (size_t i = 0; i < inputs.size(); ++i) {
    const RankFunction gradient = {
        [&f, i](const std::vector<Tensor>& at) {
          std::vector<Tensor> x(at.begin(), at.end() - 1);
          for (Tensor& one : x) {
            if (!one.requires_grad()) {
              one = one.detach().requires_grad_();
            }
          }
          return torch::autograd::grad({f.call(x)}, {x[i]}, {at.back()},
                                       /*retain_graph=*/true,
                                       /*create_graph=*/true)[0];
        },
        inputs[i].placement};
    gradcheck(gradient, points, group,
              what + ", second derivatives through input " + std::to_string(i));
  }
}

}  // namespace colonnade::testing

// tests/trace/traced_ops_test.cpp
// Programs of many kinds of ops, traced at one size and compared at others.
#include "colonnade/trace/parallel_model_trace.h"
#include "tests/testing/expect.h"

#include <torch/torch.h>

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace colonnade::trace {
namespace {

using at::Tensor;
using colonnade::testing::expect_equal;
using torch::indexing::Ellipsis;
using torch::indexing::None;
using torch::indexing::Slice;

/// A program of one tensor [rows, 6].
struct Program {
  const char* name;
  std::function<Tensor(const Tensor&)> run;
};

struct ProgramModel : torch::nn::Module {
  explicit ProgramModel(std::function<Tensor(const Tensor&)> body)
      : run(std::move(body)) {}
  Tensor forward(const Tensor& x) { return run(x); }
  std::function<Tensor(const Tensor&)> run;
};

const std::vector<Program>& programs() {
  static const std::vector<Program> all = {
      {"slices",
       [](const Tensor& x) {
         return x.index({Slice(None, None, 2), Slice(1, -1)}) + x.index({0, 0});
       }},
      {"tensor_indices",
       [](const Tensor& x) {
         const Tensor order = x.sum(1).argsort();
         return x.index({order, Slice()}) +
                x.index({Ellipsis, torch::tensor({5, 0, 1, 2, 4, 3})});
       }},
      {"boolean_mask",
       [](const Tensor& x) {
         return torch::where(x > 0, x, torch::zeros_like(x))
             .masked_fill(x < -1, 3.0);
       }},
      {"writes_through_views",
       [](const Tensor& x) {
         Tensor y = torch::zeros({x.size(0), x.size(1)});
         y.select(1, 2).copy_(x.select(1, 3));
         y.narrow(0, 1, x.size(0) - 1).add_(1);
         y.index_put_({Slice(), 0}, x.index({Slice(), 1}) * 2);
         return y;
       }},
      {"chained_views_in_place",
       [](const Tensor& x) {
         Tensor y = x.clone();
         Tensor t = y.t();
         t.mul_(2);
         t.narrow(0, 0, 2).zero_();
         return y + t.t();
       }},
      {"out_forms",
       [](const Tensor& x) {
         Tensor out = torch::empty({x.size(0), x.size(1)});
         torch::add_out(out, x, x);
         Tensor product = torch::empty({0});
         torch::mm_out(product, out, out.t());
         return product;
       }},
      {"einsum",
       [](const Tensor& x) {
         return torch::einsum("ij,kj->ik", {x, x});
       }},
      {"cat_stack_split",
       [](const Tensor& x) {
         const auto parts = x.split(2, 1);
         return torch::cat({parts[2], parts[0], parts[1]}, 1) +
                torch::stack({x, x}).sum(0) + x.chunk(3, 1)[1].repeat({1, 3});
       }},
      {"several_results",
       [](const Tensor& x) {
         const auto [values, indices] = x.topk(3, 1);
         const auto [sorted, order] = x.sort(0);
         const auto [largest, where] = x.max(1);
         return values.sum(1, true) + sorted + indices.to(torch::kFloat).sum() +
                order.to(torch::kFloat) + largest.unsqueeze(1) +
                where.unsqueeze(1);
       }},
      {"scatter_gather",
       [](const Tensor& x) {
         const Tensor index = x.argsort(int64_t{1});
         return torch::zeros_like(x).scatter_(1, index, x) + x.gather(1, index);
       }},
      {"constants_of_both_kinds",
       [](const Tensor& x) {
         return x * torch::tensor({1.0, 2.0, 3.0, 4.0, 5.0, 6.0}) +
                at::tensor(std::vector<float>{6, 5, 4, 3, 2, 1}) +
                torch::arange(6) + torch::linspace(0, 1, 6);
       }},
      {"constant_written_to",
       [](const Tensor& x) {
         Tensor c = at::tensor(std::vector<float>{1, 2, 3, 4, 5, 6});
         c.add_(x.sum(0));
         return c * x;
       }},
      {"sizes_in_arithmetic",
       [](const Tensor& x) {
         return (x / x.size(0)).reshape({2 * x.size(0), -1}) + x.size(0) * 3 -
                2;
       }},
      {"expand_and_unfold",
       [](const Tensor& x) {
         return x.unsqueeze(0).expand({3, x.size(0), x.size(1)}).sum(0) +
                x.unfold(1, 2, 2).sum(-1).repeat_interleave(2, 1);
       }},
      {"types",
       [](const Tensor& x) {
         return x.to(torch::kDouble).mul(1.5).to(x.scalar_type()) +
                x.to(torch::kInt).bitwise_and(3) + (x > 0).to(torch::kLong);
       }},
      {"linear_algebra",
       [](const Tensor& x) {
         const Tensor square = x.t().mm(x) + torch::eye(6) * 10;
         return x.mm(torch::inverse(square)) + torch::linalg_norm(x);
       }},
      {"norm_and_softmax",
       [](const Tensor& x) {
         return torch::layer_norm(x, {6}).softmax(1).log() +
                x.cumsum(0) / x.std(1, /*unbiased=*/true, /*keepdim=*/true);
       }},
      {"pad_and_convolve",
       [](const Tensor& x) {
         const Tensor padded =
             torch::constant_pad_nd(x.unsqueeze(1), {1, 1}, 0.5);
         return torch::conv1d(padded, torch::ones({1, 1, 3})).squeeze(1);
       }},
      {"foreach",
       [](const Tensor& x) {
         std::vector<Tensor> list{x.clone(), x * 2};
         torch::_foreach_add_(list, 1.0);
         return list[0] + torch::_foreach_mul(list, list)[1];
       }},
  };
  return all;
}

class TracedOps : public ::testing::TestWithParam<size_t> {};

INSTANTIATE_TEST_SUITE_P(Programs, TracedOps,
                         ::testing::Range<size_t>(0, programs().size()),
                         [](const auto& instance) {
                           return programs()[instance.param].name;
                         });

TEST_P(TracedOps, ReplayIsTheProgramAtOtherSizes) {
  const Program& program = programs()[GetParam()];
  torch::manual_seed(1);
  for (const bool optimize : {false, true}) {
    TraceOptions options;
    options.optimize = optimize;
    TensorParallelModel model = parallel_model_trace(
        [&] { return std::make_shared<ProgramModel>(program.run); },
        {torch::randn({4, 6})}, 2, options);
    EXPECT_FALSE(model.graph().fixed.has_value()) << *model.graph().fixed;
    for (const int64_t rows : {3, 9}) {
      const Tensor x = torch::randn({rows, 6});
      const c10::InferenceMode inference;
      const Tensor want = program.run(x);
      expect_equal(model(x), want, program.name);
      expect_equal(model(x), want, program.name);  // nothing is kept
    }
  }
}

}  // namespace
}  // namespace colonnade::trace

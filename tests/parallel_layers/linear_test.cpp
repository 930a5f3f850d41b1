// tests/parallel_layers/linear_test.cpp
#include "colonnade/core/error.h"
#include "colonnade/parallel_layers/detail/matmul.h"
#include "colonnade/parallel_layers/functional.h"
#include "tests/testing/expect.h"
#include "tests/testing/gradcheck.h"
#include "tests/testing/tensor_parallel.h"

#include <ATen/autocast_mode.h>
#include <ATen/ops/linear.h>
#include <torch/csrc/autograd/autograd.h>

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace colonnade::parallel_layers {
namespace {

using at::Tensor;
using detail::MatmulEngine;
using testing::expect_close;
using testing::expect_throw;
using testing::leaf;
using testing::numbers;

/// Values and gradients, which are those of sin(y) summed.
struct Result {
  Tensor y, x_grad, weight_grad, bias_grad;
};

template <typename Linear>
Result run(const Linear& linear, const Tensor& whole_x, int64_t out,
           at::ScalarType dtype) {
  const int64_t in = whole_x.size(-1);
  // Kept in the strides that it has.
  const Tensor x = whole_x.to(dtype).detach().requires_grad_();
  const Tensor weight = leaf(numbers({out, in}, 1).to(dtype));
  const Tensor bias = leaf(numbers({out}, 2).to(dtype));
  const Tensor y = linear(x, weight, bias);
  y.sin().sum().backward();
  return {y.detach(), x.grad(), weight.grad(), bias.grad()};
}

/// Our linear's values and gradients are those of torch's.
void expect_as_torch(const Tensor& x, int64_t out, at::ScalarType dtype,
                     double tolerance, const std::string& what) {
  const auto torch_linear = [](const Tensor& in, const Tensor& w,
                               const Tensor& b) {
    return at::linear(in, w, b);
  };
  const Result want = run(torch_linear, x, out, dtype);
  const Result got = run(&functional::linear, x, out, dtype);
  expect_close(got.y, want.y, tolerance, what);
  expect_close(got.x_grad, want.x_grad, tolerance, what + ", x");
  expect_close(got.weight_grad, want.weight_grad, tolerance, what + ", weight");
  expect_close(got.bias_grad, want.bias_grad, tolerance, what + ", bias");
}

class LinearTest : public ::testing::TestWithParam<MatmulEngine> {
 protected:
  void SetUp() override { detail::set_matmul_engine(GetParam()); }
  void TearDown() override { detail::set_matmul_engine(std::nullopt); }
};
INSTANTIATE_TEST_SUITE_P(Engines, LinearTest,
                         ::testing::Values(MatmulEngine::kTorch,
                                           MatmulEngine::kOneDnn));

TEST_P(LinearTest, ValuesAndGradientsAreThoseOfTorch) {
  const std::vector<Tensor> inputs = {numbers({7}),
                                      numbers({3, 7}),
                                      numbers({2, 3, 7}),
                                      numbers({2, 3, 4, 7}),
                                      numbers({80, 33}),
                                      numbers({0, 7}),
                                      numbers({2, 0, 7}),
                                      numbers({3, 0}),
                                      numbers({7, 90}).t(),
                                      numbers({7, 5, 4}).permute({2, 1, 0}),
                                      numbers({1, 7}).expand({5, 7}),
                                      numbers({64, 14}).slice(1, 0, 14, 2)};
  for (const at::ScalarType dtype :
       {at::kDouble, at::kFloat, at::kBFloat16, at::kHalf}) {
    const double tolerance = dtype == at::kDouble     ? 1e-12
                             : dtype == at::kFloat    ? 2e-5
                             : dtype == at::kBFloat16 ? 6e-2
                                                      : 8e-3;
    for (size_t i = 0; i < inputs.size(); ++i) {
      for (const int64_t out : {0, 1, 11}) {
        const std::string what = std::string(at::toString(dtype)) + ", input " +
                                 std::to_string(i) + ", out " +
                                 std::to_string(out);
        expect_as_torch(inputs[i], out, dtype, tolerance, what);
      }
    }
  }
}

/// Of sizes at which an engine may differ from torch's.
TEST_P(LinearTest, LargeProductsAreThoseOfTorch) {
  const std::vector<Tensor> inputs = {numbers({160, 90}),
                                      numbers({8, 20, 90}),
                                      numbers({90, 160}).t(),
                                      numbers({90, 20, 8}).permute({2, 1, 0}),
                                      numbers({1, 90}).expand({160, 90}),
                                      numbers({160, 180}).slice(1, 0, 180, 2)};
  for (size_t i = 0; i < inputs.size(); ++i) {
    expect_as_torch(inputs[i], 48, at::kFloat, 1e-4,
                    "input " + std::to_string(i));
  }
}

TEST_P(LinearTest, DerivativesOfAnyOrderAreRight) {
  testing::run_tensor_parallel(1, [](const GroupPtr& group) {
    const testing::RankFunction f = {
        [](const std::vector<Tensor>& in) {
          return functional::linear(in[0], in[1], in[2]).sin();
        },
        testing::Placement::kReplicated};
    for (const std::vector<int64_t>& shape :
         {std::vector<int64_t>{3}, {2, 3}, {2, 2, 3}}) {
      const std::vector<testing::Placed> inputs = {
          {numbers(shape), testing::Placement::kReplicated},
          {numbers({2, 3}, 1), testing::Placement::kReplicated},
          {numbers({2}, 2), testing::Placement::kReplicated}};
      gradcheck(f, inputs, group);
      gradgradcheck(f, inputs, group);
    }
  });
}

TEST_P(LinearTest, WeightMayBeAnyTensor) {
  const Tensor x = numbers({4, 6}).to(at::kFloat);
  const Tensor base = leaf(numbers({6, 5}).to(at::kFloat));
  const Tensor y = functional::linear(x, (base * 2).t());
  y.sum().backward();
  expect_close(y, at::linear(x, base.detach().t() * 2), 1e-5);
  expect_close(base.grad(), x.sum(0).unsqueeze(1).expand({6, 5}) * 2, 1e-5);
}

TEST_P(LinearTest, SavesOnlyWhatItsGradientsNeed) {
  const Tensor weight = numbers({5, 6});
  Tensor x = leaf(numbers({4, 6})) * 1;
  const Tensor y = functional::linear(x, weight);
  x.mul_(2);  // not needed again: the weight wants no gradient
  EXPECT_NO_THROW(y.sum().backward());
  x = leaf(numbers({4, 6})) * 1;
  const Tensor again = functional::linear(x, leaf(weight));
  x.mul_(2);
  expect_throw<c10::Error>([&] { again.sum().backward(); },
                           "modified by an inplace operation");
}

TEST_P(LinearTest, RunsInTheDtypeOfAutocast) {
  at::autocast::set_autocast_enabled(at::kCPU, true);
  const Tensor x = leaf(numbers({4, 6}).to(at::kFloat));
  const Tensor weight = leaf(numbers({5, 6}).to(at::kFloat));
  const Tensor y = functional::linear(x, weight);
  at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(at::kCPU, false);
  EXPECT_EQ(y.scalar_type(), at::kBFloat16);
  y.sum().backward();
  EXPECT_EQ(weight.grad().scalar_type(), at::kFloat);
}

TEST(Linear, RefusesShapesThatDoNotFit) {
  expect_throw<InvalidArgument>(
      [] {
        functional::linear(at::zeros({2, 3}), at::zeros({4, 5}));
      },
      "linear: an input of shape [2, 3] does not fit a weight of shape "
      "[4, 5]; expected [..., in] and [out, in]");
}

TEST(MatmulEngine, IsChosenByName) {
  EXPECT_EQ(detail::parse_matmul_engine("torch"), MatmulEngine::kTorch);
  EXPECT_EQ(detail::parse_matmul_engine("onednn"), MatmulEngine::kOneDnn);
  expect_throw<InvalidArgument>(
      [] { detail::parse_matmul_engine("mkl"); },
      "COLONNADE_MATMUL: there is no engine \"mkl\"; set it to torch or "
      "onednn");
}

}  // namespace
}  // namespace colonnade::parallel_layers

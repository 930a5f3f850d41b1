// tests/models/swiglu_test.cpp
#include "colonnade/models/swiglu.h"

#include "tests/models/same_function.h"
#include "tests/testing/expect.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <gtest/gtest.h>

#include <limits>

namespace colonnade {
namespace {

at::Tensor normal(at::IntArrayRef shape, uint64_t seed) {
  return at::randn(shape, at::detail::createCPUGenerator(seed),
                   at::TensorOptions().dtype(at::kDouble));
}

at::Tensor reference(const std::vector<at::Tensor>& in) {
  return in[0] / (1 + (-in[0]).exp()) * in[1];
}

at::Tensor ours(const std::vector<at::Tensor>& in) {
  return swiglu(in[0], in[1]);
}

TEST(Swiglu, IsTheFormulaWithItsDerivatives) {
  testing::expect_same_function(
      ours, reference, {3 * normal({3, 5, 17}, 1), normal({3, 5, 17}, 2)},
      1e-6);
}

TEST(Swiglu, TakesInputsThatAreNotContiguous) {
  testing::expect_same_function(
      ours, reference,
      {normal({5, 3, 8}, 1).transpose(0, 1), normal({3, 5, 8}, 2)}, 1e-6);
}

TEST(Swiglu, HoldsOverTheWholeRangeOfFloats) {
  const at::Tensor gate = at::cat({at::linspace(-120, 120, 4001),
                                   at::tensor({-1e30F, 1e30F, 0.0F, -0.0F})})
                              .requires_grad_();
  const at::Tensor y = swiglu(gate, at::ones_like(gate));
  const at::Tensor wide = gate.detach().to(at::kDouble);
  const at::Tensor want = wide * wide.sigmoid();
  const at::Tensor error = (y.detach().to(at::kDouble) - want).abs();
  EXPECT_TRUE((error <= 5e-7 * want.abs() + 1e-30)
                  .slice(0, 0, 4001)
                  .all()
                  .item<bool>());
  EXPECT_EQ(y[-3].item<float>(), 1e30F);
  const at::Tensor special =
      at::tensor({std::numeric_limits<float>::quiet_NaN()}).requires_grad_();
  EXPECT_TRUE(swiglu(special, at::ones({1})).isnan().item<bool>());
}

}  // namespace
}  // namespace colonnade

// tests/models/rms_norm_test.cpp
#include "colonnade/models/rms_norm.h"

#include "tests/models/same_function.h"
#include "tests/testing/expect.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <gtest/gtest.h>

namespace colonnade {
namespace {

at::Tensor normal(at::IntArrayRef shape, uint64_t seed) {
  return at::randn(shape, at::detail::createCPUGenerator(seed),
                   at::TensorOptions().dtype(at::kDouble));
}

at::Tensor reference(const std::vector<at::Tensor>& in) {
  return in[0] / (in[0].pow(2).mean(-1, true) + 1e-5).sqrt() * in[1];
}

at::Tensor ours(const std::vector<at::Tensor>& in) {
  return rms_norm(in[0], in[1], 1e-5);
}

TEST(RmsNorm, IsTheFormulaWithItsDerivatives) {
  for (const int64_t size : {1, 15, 16, 37, 64}) {
    SCOPED_TRACE(size);
    testing::expect_same_function(
        ours, reference, {normal({3, 5, size}, 1), normal({size}, 2)}, 1e-5);
  }
}

TEST(RmsNorm, TakesInputsThatAreNotContiguous) {
  testing::expect_same_function(
      ours, reference, {normal({5, 3, 20}, 1).transpose(0, 1), normal({20}, 2)},
      1e-5);
}

TEST(RmsNorm, SumsBfloat16InFp32) {
  const at::Tensor x = normal({4, 300}, 1).to(at::kBFloat16);
  const at::Tensor weight = normal({300}, 2).to(at::kBFloat16);
  const at::Tensor want =
      reference({x.to(at::kFloat), weight.to(at::kFloat)}).to(at::kBFloat16);
  testing::expect_close(rms_norm(x, weight, 1e-5), want, 1e-2);
  // The mean of squares of one value is exact only where it is taken in fp32.
  const at::Tensor same = at::full({1, 4096}, 3.0, at::kBFloat16);
  testing::expect_equal(rms_norm(same, at::ones({4096}, at::kBFloat16), 0.0),
                        at::ones({1, 4096}, at::kBFloat16));
}

}  // namespace
}  // namespace colonnade

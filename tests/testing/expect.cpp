// tests/testing/expect.cpp
#include "tests/testing/expect.h"

#include <ATen/ops/equal.h>

namespace colonnade::testing {

void expect_close(const at::Tensor& got, const at::Tensor& want,
                  double tolerance, const std::string& what) {
  ASSERT_EQ(got.defined(), want.defined()) << what;
  if (!got.defined()) {
    return;
  }
  ASSERT_EQ(got.sizes(), want.sizes()) << what;
  ASSERT_EQ(got.scalar_type(), want.scalar_type()) << what;
  const at::Tensor a = got.detach().to(at::kDouble);
  const at::Tensor b = want.detach().to(at::kDouble);
  if (a.numel() == 0) {
    return;
  }
  EXPECT_TRUE(a.allclose(b, /*rtol=*/tolerance, /*atol=*/tolerance))
      << what << ": largest difference " << (a - b).abs().max().item<double>()
      << ", tolerance " << tolerance;
}

void expect_equal(const at::Tensor& got, const at::Tensor& want,
                  const std::string& what) {
  ASSERT_EQ(got.sizes(), want.sizes()) << what;
  ASSERT_EQ(got.scalar_type(), want.scalar_type()) << what;
  EXPECT_TRUE(at::equal(got, want)) << what;
}

}  // namespace colonnade::testing

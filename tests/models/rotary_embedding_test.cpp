// tests/models/rotary_embedding_test.cpp
#include "colonnade/models/rotary_embedding.h"

#include "tests/models/same_function.h"
#include "tests/testing/expect.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <gtest/gtest.h>

namespace colonnade {
namespace {

constexpr int64_t kHeadDim = 10;

LlamaOptions options_in(at::ScalarType dtype) {
  return LlamaOptions().head_dim(kHeadDim).max_positions(12).dtype(dtype);
}

at::Tensor some_heads() {
  return at::randn({2, 4, 3, kHeadDim}, at::detail::createCPUGenerator(1),
                   at::TensorOptions().dtype(at::kDouble));
}

at::Tensor positions_from(int64_t position) {
  return at::arange(4) + position;
}

/// Pair by pair, with the library's cosine and sine.
at::Tensor reference(const at::Tensor& x, int64_t position) {
  std::vector<at::Tensor> columns(kHeadDim);
  for (int64_t i = 0; i < kHeadDim / 2; ++i) {
    const at::Tensor angle =
        (at::arange(x.size(1), at::kDouble) + position) *
        std::pow(10000.0, -2.0 * static_cast<double>(i) / kHeadDim);
    const at::Tensor cos = angle.cos().unsqueeze(-1).to(x.scalar_type());
    const at::Tensor sin = angle.sin().unsqueeze(-1).to(x.scalar_type());
    const at::Tensor a = x.select(-1, i);
    const at::Tensor b = x.select(-1, i + kHeadDim / 2);
    columns[i] = a * cos - b * sin;
    columns[i + kHeadDim / 2] = a * sin + b * cos;
  }
  return at::stack(columns, -1);
}

TEST(RotaryEmbedding, TurnsPairsWithItsDerivatives) {
  for (const int64_t position : {0, 5}) {
    testing::expect_same_function(
        [&](const std::vector<at::Tensor>& in) {
          return RotaryEmbedding(options_in(in[0].scalar_type()))
              .at(positions_from(position))(in[0]);
        },
        [&](const std::vector<at::Tensor>& in) {
          return reference(in[0], position);
        },
        {some_heads()}, 1e-5);
  }
}

TEST(RotaryEmbedding, KeepsLengthsAndFirstPosition) {
  const at::Tensor x = some_heads();
  const at::Tensor y = RotaryEmbedding(options_in(at::kDouble)).first(4)(x);
  testing::expect_close(y.norm(2, -1), x.norm(2, -1), 1e-12);
  testing::expect_equal(y.select(1, 0), x.select(1, 0));
}

TEST(RotaryEmbedding, TurnsBfloat16InFp32) {
  const at::Tensor x = some_heads().to(at::kBFloat16);
  testing::expect_equal(
      RotaryEmbedding(options_in(at::kBFloat16)).at(positions_from(3))(x),
      reference(x.to(at::kFloat), 3).to(at::kBFloat16));
}

}  // namespace
}  // namespace colonnade

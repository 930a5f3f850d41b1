// tests/parallel_layers/init_test.cpp
#include "colonnade/parallel_layers/init.h"

#include "colonnade/parallel_layers/column_parallel_linear.h"
#include "colonnade/parallel_layers/parallel_embedding.h"
#include "colonnade/parallel_layers/row_parallel_linear.h"
#include "colonnade/sharding/attributes.h"
#include "colonnade/sharding/split_join.h"
#include "tests/testing/expect.h"
#include "tests/testing/tensor_parallel.h"

#include <torch/nn/init.h>
#include <torch/nn/modules/embedding.h>
#include <torch/nn/modules/linear.h>

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

namespace colonnade::parallel_layers {
namespace {

using at::Tensor;
using testing::expect_equal;
using testing::run_tensor_parallel;

/// While it lives, torch::nn makes parameters of `dtype`.
class DefaultDtype {
 public:
  explicit DefaultDtype(at::ScalarType dtype)
      : previous_(at::get_default_dtype()) {
    at::set_default_dtype(at::scalarTypeToTypeMeta(dtype));
  }
  ~DefaultDtype() { at::set_default_dtype(previous_); }

 private:
  caffe2::TypeMeta previous_;
};

/// What torch::nn starts with after `manual_seed(1)`, in this order.
struct DenseInit {
  explicit DenseInit(at::ScalarType dtype) {
    const DefaultDtype scope(dtype);
    torch::manual_seed(1);
    const torch::nn::Linear up(10, 24);
    const torch::nn::Linear down(24, 10);
    const torch::nn::Embedding table(13, 6);
    const torch::nn::Linear odd(7, 9);
    up_weight = up->weight.detach();
    up_bias = up->bias.detach();
    down_weight = down->weight.detach();
    down_bias = down->bias.detach();
    table_weight = table->weight.detach();
    odd_weight = odd->weight.detach();
    odd_bias = odd->bias.detach();
  }
  Tensor up_weight, up_bias, down_weight, down_bias, table_weight, odd_weight,
      odd_bias;
};

void expect_shard(const Tensor& parameter, const Tensor& whole,
                  const std::string& what) {
  const auto attributes = get_tensor_parallel_attributes(parameter);
  const at::NoGradGuard no_grad;
  expect_equal(parameter, attributes ? split(whole, attributes->spec) : whole,
               what);
}

class InitTest : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, InitTest, ::testing::Values(1, 2, 3, 4));

TEST_P(InitTest, LayersStartFromTheBitsOfTorch) {
  const int ranks = GetParam();
  for (const at::ScalarType dtype :
       {at::kFloat, at::kBFloat16, at::kHalf, at::kDouble}) {
    const DenseInit want(dtype);
    run_tensor_parallel(ranks, [&](const GroupPtr&) {
      ColumnParallelLinear up(ColumnParallelLinearOptions(10, 24).dtype(dtype));
      RowParallelLinear down(RowParallelLinearOptions(24, 10).dtype(dtype));
      ParallelEmbedding table(ParallelEmbeddingOptions(13, 6).dtype(dtype));
      RowParallelLinear odd(
          RowParallelLinearOptions(7, 9).dtype(dtype).pad(true));
      expect_shard(up->weight, want.up_weight, "column weight");
      expect_shard(up->bias, want.up_bias, "column bias");
      expect_shard(down->weight, want.down_weight, "row weight");
      expect_shard(down->bias, want.down_bias, "row bias");
      expect_shard(table->weight, want.table_weight, "embedding");
      expect_shard(odd->weight, want.odd_weight, "padded weight");
      expect_shard(odd->bias, want.odd_bias, "padded bias");
    });
  }
}

TEST_P(InitTest, SegmentsAndPaddingStartFromTheBitsOfTorch) {
  const DenseInit want(at::kFloat);
  run_tensor_parallel(GetParam(), [&](const GroupPtr&) {
    ColumnParallelLinear fused(
        ColumnParallelLinearOptions(10, 24).segments({12, 12}));
    expect_shard(fused->weight, want.up_weight, "segments");
    expect_shard(fused->bias, want.up_bias, "segments, bias");
    manual_seed(1);
    torch::nn::Linear(10, 24);
    torch::nn::Linear(24, 10);
    torch::nn::Embedding(13, 6);
    ColumnParallelLinear odd(ColumnParallelLinearOptions(7, 9).pad(true));
    expect_shard(odd->weight, want.odd_weight, "after torch::nn");
    expect_shard(odd->bias, want.odd_bias, "after torch::nn, bias");
  });
}

TEST_P(InitTest, MethodOfTheUserTakesTheWholeTensor) {
  run_tensor_parallel(GetParam(), [&](const GroupPtr&) {
    const InitMethod count = [](Tensor& whole) {
      EXPECT_EQ(whole.numel(), 240);
      whole.copy_(at::arange(240, whole.options()).view_as(whole));
    };
    ColumnParallelLinear column(
        ColumnParallelLinearOptions(10, 24).init_method(count));
    expect_equal(gather_parameter(column->weight),
                 at::arange(240, at::kFloat).view({24, 10}));
    ParallelEmbedding table(
        ParallelEmbeddingOptions(24, 10).init_method(count).padding_idx(1));
    Tensor rows = at::arange(240, at::kFloat).view({24, 10});
    rows[1].zero_();
    expect_equal(gather_parameter(table->weight), rows);
  });
}

TEST_P(InitTest, ResetDrawsAnew) {
  run_tensor_parallel(GetParam(), [&](const GroupPtr&) {
    ColumnParallelLinear layer(10, 24);
    const Tensor first = layer->weight.detach().clone();
    manual_seed(1);
    layer->reset_parameters();
    expect_equal(layer->weight.detach(), first);
    EXPECT_TRUE(layer->weight.requires_grad());
  });
}

TEST(Init, FillsAReplicatedParameterAsItIs) {
  run_tensor_parallel(2, [](const GroupPtr&) {
    Tensor norm = at::zeros({4}).requires_grad_();
    init_parameter(norm, [](Tensor& x) { x.fill_(2); });
    expect_equal(norm.detach(), at::full({4}, 2.0F));
  });
}

}  // namespace
}  // namespace colonnade::parallel_layers

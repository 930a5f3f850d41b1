// tests/parallel_layers/from_dense_test.cpp
#include "colonnade/parallel_layers/from_dense.h"

#include "colonnade/core/error.h"
#include "colonnade/sharding/split_join.h"
#include "tests/testing/expect.h"
#include "tests/testing/tensor_parallel.h"

#include <gtest/gtest.h>

namespace colonnade::parallel_layers {
namespace {

using at::Tensor;
using testing::expect_close;
using testing::expect_equal;
using testing::expect_throw;
using testing::numbers;
using testing::run_tensor_parallel;

class FromDenseTest : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, FromDenseTest, ::testing::Values(1, 2, 3, 4));

TEST_P(FromDenseTest, ParallelFormsComputeWhatTheDenseModulesDo) {
  run_tensor_parallel(GetParam(), [&](const GroupPtr&) {
    torch::nn::Linear dense(12, 24);
    dense->to(at::kDouble);
    torch::nn::Embedding table(
        torch::nn::EmbeddingOptions(7, 12).padding_idx(2));
    table->to(at::kDouble);
    const Tensor before = random_state().replicated;
    auto column = from_dense<ColumnParallelLinear>(dense);
    auto row = from_dense<RowParallelLinear>(dense);
    auto embedding = from_dense<ParallelEmbedding>(table);
    expect_equal(random_state().replicated, before);

    const Tensor ids = at::arange(7, at::kLong);
    const Tensor x = embedding(ids);
    expect_close(x, table(ids), 1e-14);
    expect_close(column(x), dense(x));
    expect_close(row(x), dense(x));
    EXPECT_EQ(embedding->options.padding_idx(), 2);
    expect_equal(gather_parameter(column->weight), dense->weight.detach());
    EXPECT_FALSE(row->bias.is_same(dense->bias));
  });
}

TEST_P(FromDenseTest, OptionsSayWhatTheDenseModuleDoesNotKnow) {
  run_tensor_parallel(GetParam(), [&](const GroupPtr& group) {
    torch::nn::Linear dense(torch::nn::LinearOptions(5, 12).bias(false));
    dense->weight.set_requires_grad(false);
    dense->eval();
    auto column = from_dense<ColumnParallelLinear>(
        dense, ColumnParallelLinearOptions(0, 0).gather_output(false));
    EXPECT_FALSE(column->bias.defined());
    EXPECT_FALSE(column->weight.requires_grad());
    EXPECT_FALSE(column->is_training());
    EXPECT_EQ(column(at::ones({2, 5})).size(1), 12 / group->size());
  });
}

TEST(FromDense, RefusesWhatTheParallelFormHasNot) {
  run_tensor_parallel(2, [](const GroupPtr&) {
    torch::nn::Embedding sparse(
        torch::nn::EmbeddingOptions(7, 12).sparse(true));
    expect_throw<InvalidArgument>(
        [&] { from_dense<ParallelEmbedding>(sparse); },
        "from_dense: a ParallelEmbedding has no max_norm");
    expect_throw<InvalidArgument>(
        [] { from_dense<ColumnParallelLinear>(torch::nn::Linear(4, 7)); },
        "output_size 7 does not divide over 2 ranks");
  });
}

}  // namespace
}  // namespace colonnade::parallel_layers

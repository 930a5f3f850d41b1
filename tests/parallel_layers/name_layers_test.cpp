#include "colonnade/parallel_layers/name_layers.h"

#include "colonnade/core/error.h"
#include "colonnade/parallel_layers/column_parallel_linear.h"
#include "colonnade/parallel_layers/row_parallel_linear.h"
#include "colonnade/parallel_state/parallel_state.h"
#include "tests/testing/error_of.h"
#include "tests/testing/run_on_ranks.h"

#include <ATen/ATen.h>
#include <torch/nn/modules/container/sequential.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace colonnade::parallel_layers {
namespace {

using testing::HasSubstr;

torch::nn::Sequential two_layers() {
  return torch::nn::Sequential(
      ColumnParallelLinear(
          ColumnParallelLinearOptions(4, 6).gather_output(false)),
      RowParallelLinear(
          RowParallelLinearOptions(6, 4).input_is_parallel(true)));
}

/// Expects what rank 0 hears where rank 1 gives `rows` rows and makes no
/// backward.
void expect_on_rank_0(bool named, int64_t rows,
                      const testing::Matcher<std::string>& error) {
  run_on_ranks(2, [&](int rank) {
    parallel_state::initialize_model_parallel(2);
    torch::nn::Sequential model = two_layers();
    if (named) {
      name_layers(*model);
    }
    const at::Tensor x =
        at::ones({rank == 1 ? rows : 2, 4}).requires_grad_(true);
    const auto step = [&] {
      const at::Tensor y = model->forward(x);
      if (rank == 0) {
        y.sum().backward();
      }
    };
    if (rank == 0) {
      EXPECT_THAT(error_of<CommError>(step), error);
    } else {
      try {
        step();
      } catch (const CommError&) {  // as rank 0
      }
    }
  });
}

TEST(NameLayers, ErrorsNameTheLayerInForward) {
  expect_on_rank_0(/*named=*/true, /*rows=*/3,
                   HasSubstr("rank 0 called all_reduce(float32 [2, 4], sum) by "
                             "layer 1 but rank 1 called all_reduce(float32 [3, "
                             "4], sum) by layer 1; all ranks"));
}

TEST(NameLayers, ErrorsNameTheLayerInBackward) {
  expect_on_rank_0(
      /*named=*/true, /*rows=*/2,
      "rank 1 has returned, but rank 0 waits for it in "
      "all_reduce(float32 [2, 4], sum) by layer 0 (backward), call 2 of "
      "group \"tp\"; all ranks must make the same calls");
}

TEST(NameLayers, WithoutItErrorsNameTheKindOfLayer) {
  expect_on_rank_0(
      /*named=*/false, /*rows=*/2,
      HasSubstr("sum) by ColumnParallelLinear (backward), call 2"));
}

}  // namespace
}  // namespace colonnade::parallel_layers

// tests/parallel_layers/functional_test.cpp
// What the functional forms refuse that the modules cannot be given. What both
// compute is in the tests of the modules.
#include "colonnade/parallel_layers/functional.h"

#include "colonnade/core/error.h"
#include "tests/testing/expect.h"
#include "tests/testing/tensor_parallel.h"

#include <ATen/ops/zeros.h>

#include <gtest/gtest.h>

namespace colonnade::parallel_layers::functional {
namespace {

using at::Tensor;
using testing::expect_throw;
using testing::run_tensor_parallel;

TEST(ColumnParallelLinearFunction, RefusesWhatDoesNotFit) {
  run_tensor_parallel(2, [](const GroupPtr&) {
    const Tensor x = at::zeros({3, 4});
    const Tensor weight = at::zeros({2, 4});
    expect_throw<InvalidArgument>(
        [&] { column_parallel_linear({}, weight, {}); },
        "ColumnParallelLinear: the input is undefined; give a tensor");
    expect_throw<InvalidArgument>(
        [&] { column_parallel_linear(x, {}, {}); },
        "ColumnParallelLinear: the weight is undefined; give a tensor");
    expect_throw<InvalidArgument>(
        [&] { column_parallel_linear(x, at::zeros({4}), {}); },
        "ColumnParallelLinear: the weight has shape [4]; expected two dims");
    expect_throw<InvalidArgument>(
        [&] { column_parallel_linear(x, weight, at::zeros({4})); },
        "ColumnParallelLinear: the bias has shape [4]; expected [2], the rows "
        "of the weight");
    expect_throw<InvalidArgument>(
        [&] { column_parallel_linear(x, weight, at::zeros({2}, at::kDouble)); },
        "ColumnParallelLinear: the bias is Double, the weight Float; convert "
        "one with to()");
    expect_throw<InvalidArgument>(
        [&] { column_parallel_linear(x, weight, {}, {.output_size = 5}); },
        "ColumnParallelLinear: output_size 5 over 2 ranks does not give the 2 "
        "that the weight of this rank has");
  });
}

TEST(RowParallelLinearFunction, RefusesWhatDoesNotFit) {
  run_tensor_parallel(2, [](const GroupPtr&) {
    const Tensor x = at::zeros({3, 4});
    const Tensor weight = at::zeros({5, 2});
    expect_throw<InvalidArgument>(
        [&] { row_parallel_linear({}, weight, {}); },
        "RowParallelLinear: the input is undefined; give a tensor");
    expect_throw<InvalidArgument>(
        [&] { row_parallel_linear(x, at::zeros({4}), {}); },
        "RowParallelLinear: the weight has shape [4]; expected two dims");
    expect_throw<InvalidArgument>(
        [&] { row_parallel_linear(x, weight, at::zeros({4})); },
        "RowParallelLinear: the bias has shape [4]; expected [5], the rows of "
        "the weight");
    expect_throw<InvalidArgument>(
        [&] { row_parallel_linear(x, weight, {}, {.input_size = 7}); },
        "RowParallelLinear: the input has shape [3, 4]; expected [..., 7]");
  });
}

TEST(ParallelEmbeddingFunction, RefusesWhatDoesNotFit) {
  run_tensor_parallel(2, [](const GroupPtr&) {
    const Tensor ids = at::zeros({3}, at::kLong);
    expect_throw<InvalidArgument>(
        [&] {
          parallel_embedding({}, at::zeros({2, 3}), {});
        },
        "ParallelEmbedding: the input is undefined; give a tensor");
    expect_throw<InvalidArgument>(
        [&] { parallel_embedding(ids, at::zeros({4}), {}); },
        "ParallelEmbedding: the weight has shape [4]; expected two dims");
  });
}

}  // namespace
}  // namespace colonnade::parallel_layers::functional

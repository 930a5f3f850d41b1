// tests/api/before_initialize_test.cpp
// Every part of the API that needs parallel state says so where there is none,
// in a rank and outside of one.
#include "tests/api/mlp.h"
#include "tests/testing/error_of.h"

#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <torch/nn/modules/normalization.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <utility>
#include <vector>

namespace colonnade {
namespace {

namespace pl = parallel_layers;
namespace ps = parallel_state;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

/// The subject of the message, and what gives it.
using NamedCall = std::pair<const char*, std::function<void()>>;

at::Tensor shard_of_tp() {
  at::Tensor shard = at::ones({2, 4});
  set_tensor_parallel_attributes(shard, {ShardSpec::even(0, 4, 0, 2), "tp"});
  return shard;
}

const std::vector<NamedCall>& calls() {
  static const at::Tensor x = at::ones({2, 4});
  static const at::Tensor ids = at::zeros({2}, at::kLong);
  namespace f = pl::functional;
  static const std::vector<NamedCall> all = {
      {"ColumnParallelLinear", [] { pl::ColumnParallelLinear(4, 4); }},
      {"RowParallelLinear", [] { pl::RowParallelLinear(4, 4); }},
      {"ParallelEmbedding", [] { pl::ParallelEmbedding(4, 4); }},
      {"ColumnParallelLinear", [] { f::column_parallel_linear(x, x, {}); }},
      {"RowParallelLinear", [] { f::row_parallel_linear(x, x, {}); }},
      {"ParallelEmbedding",
       [] { f::parallel_embedding(ids, x, {.num_embeddings = 4}); }},
      {"ColumnParallelLinear",
       [] {
         pl::from_dense<pl::ColumnParallelLinear>(torch::nn::Linear(4, 4));
       }},
      {"copy_to_tensor_model_parallel_region",
       [] { pl::copy_to_tensor_model_parallel_region(x); }},
      {"reduce_from_tensor_model_parallel_region",
       [] { pl::reduce_from_tensor_model_parallel_region(x); }},
      {"scatter_to_tensor_model_parallel_region",
       [] { pl::scatter_to_tensor_model_parallel_region(x); }},
      {"gather_from_tensor_model_parallel_region",
       [] { pl::gather_from_tensor_model_parallel_region(x); }},
      {"scatter_to_sequence_parallel_region",
       [] { pl::scatter_to_sequence_parallel_region(x); }},
      {"gather_from_sequence_parallel_region",
       [] { pl::gather_from_sequence_parallel_region(x); }},
      {"reduce_scatter_to_sequence_parallel_region",
       [] { pl::reduce_scatter_to_sequence_parallel_region(x); }},
      {"parallel_cross_entropy", [] { pl::parallel_cross_entropy(x, ids); }},
      {"get_data_parallel_group",
       [] {
         torch::nn::Linear model(4, 4);
         pl::average_gradients(*model);
       }},
      {"sum_gradients_over_sequence",
       [] {
         torch::nn::Linear model(4, 4);
         pl::sum_gradients_over_sequence(*model);
       }},
      {"RankContext", [] { gather_parameter(shard_of_tp()); }},
      {"RankContext",
       [] {
         at::Tensor shard = shard_of_tp();
         shard.mutable_grad() = at::ones({2, 4});
         pl::clip_grad_norm(shard, 1.0);
       }},
      {"new_group", [] { ps::new_group("mine", {0}); }},
      {"get_world_group", [] { ps::get_world_group(); }},
  };
  return all;
}

void expect_each_says_so() {
  for (const auto& [name, call] : calls()) {
    SCOPED_TRACE(name);
    EXPECT_THAT(
        error_of<InvalidArgument>(call),
        AllOf(StartsWith(name), HasSubstr("initialize_model_parallel")));
  }
}

TEST(BeforeInitialize, EachSaysSoInARank) {
  run_ranks(2, [] { expect_each_says_so(); });
}

TEST(BeforeInitialize, EachSaysSoOutsideOfRanks) {
  expect_each_says_so();
}

TEST(BeforeInitialize, EachSaysSoAfterDestroy) {
  run_ranks(1, [] {
    ps::initialize_model_parallel();
    ps::destroy_model_parallel();
    expect_each_says_so();
  });
}

}  // namespace
}  // namespace colonnade

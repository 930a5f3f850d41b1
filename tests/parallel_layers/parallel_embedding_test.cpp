// tests/parallel_layers/parallel_embedding_test.cpp
#include "colonnade/parallel_layers/parallel_embedding.h"

#include "colonnade/core/error.h"
#include "colonnade/launch/launch.h"
#include "colonnade/parallel_layers/functional.h"
#include "colonnade/sharding/attributes.h"
#include "colonnade/sharding/split_join.h"
#include "tests/testing/expect.h"
#include "tests/testing/gradcheck.h"
#include "tests/testing/tensor_parallel.h"

#include <ATen/ops/embedding.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <sstream>
#include <string>
#include <vector>

namespace colonnade::parallel_layers {
namespace {

using at::Tensor;
using testing::expect_close;
using testing::expect_equal;
using testing::expect_throw;
using testing::leaf;
using testing::numbers;
using testing::part;
using testing::Placement;
using testing::run_tensor_parallel;
using Options = ParallelEmbeddingOptions;

constexpr int64_t kDim = 3;

/// Ids of `shape` that meet every row of a table of `size`.
Tensor ids_of(at::IntArrayRef shape, int64_t size) {
  return at::arange(c10::multiply_integers(shape), at::kLong)
      .mul(5)
      .remainder(size)
      .view(shape);
}

class ParallelEmbeddingTest : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, ParallelEmbeddingTest,
                         ::testing::Values(1, 2, 3, 4));

TEST_P(ParallelEmbeddingTest, ValuesAndGradientsMatchDense) {
  run_tensor_parallel(GetParam(), [&](const GroupPtr&) {
    // 1 and 2: some ranks hold padding alone.
    for (const int64_t size : {1, 2, 7, 12, 13}) {
      for (const std::vector<int64_t>& shape :
           {std::vector<int64_t>{}, {14}, {2, 14}, {2, 1, 14}, {0}, {2, 0}}) {
        for (const at::ScalarType type : {at::kLong, at::kInt}) {
          const std::string what = std::to_string(size) + " rows, dims " +
                                   std::to_string(shape.size());
          const Tensor table = numbers({size, kDim});
          const Tensor whole = leaf(table);
          const Tensor ids = ids_of(shape, size).to(type);
          const Tensor want = at::embedding(whole, ids);
          want.sin().sum().backward();

          ParallelEmbedding layer(Options(size, kDim).dtype(at::kDouble));
          split_parameter(layer->weight, table);
          const Tensor y = layer(ids);
          expect_close(y, want, 1e-14, what);
          y.sin().sum().backward();
          const auto spec = get_tensor_parallel_attributes(layer->weight)->spec;
          expect_close(layer->weight.grad(), split(whole.grad(), spec), 1e-10,
                       what);
        }
      }
    }
  });
}

TEST_P(ParallelEmbeddingTest, PaddingIdxGetsNoGradient) {
  run_tensor_parallel(GetParam(), [&](const GroupPtr&) {
    for (const int64_t padding : {0, 6, -1}) {
      const int64_t index = padding < 0 ? padding + 7 : padding;
      const Tensor table = numbers({7, kDim});
      const Tensor whole = leaf(table);
      const Tensor ids = ids_of({14}, 7);
      const Tensor want = at::embedding(whole, ids, index);
      want.sin().sum().backward();

      ParallelEmbedding layer(
          Options(7, kDim).dtype(at::kDouble).padding_idx(padding));
      EXPECT_EQ(gather_parameter(layer->weight)[index]
                    .count_nonzero()
                    .item<int64_t>(),
                0);
      split_parameter(layer->weight, table);
      const Tensor y = layer(ids);
      expect_close(y, want, 1e-14);
      y.sin().sum().backward();
      expect_close(layer->weight.grad(),
                   split(whole.grad(),
                         get_tensor_parallel_attributes(layer->weight)->spec));
    }
  });
}

TEST_P(ParallelEmbeddingTest, SequenceParallelMatchesDense) {
  run_tensor_parallel(GetParam(), [&](const GroupPtr& group) {
    for (const int64_t dim : {0, 1, -2}) {
      const Tensor table = numbers({7, kDim});
      const Tensor whole = leaf(table);
      const Tensor ids = ids_of({12, 12}, 7);
      const Tensor want = at::embedding(whole, ids);
      want.sin().sum().backward();
      ParallelEmbedding layer(Options(7, kDim)
                                  .dtype(at::kDouble)
                                  .sequence_parallel_enabled(true)
                                  .sequence_dimension(dim));
      split_parameter(layer->weight, table);
      const Tensor y = layer(ids);
      expect_close(y, part(want, dim, group), 1e-14);
      y.sin().sum().backward();
      expect_close(layer->weight.grad(),
                   split(whole.grad(),
                         get_tensor_parallel_attributes(layer->weight)->spec));
    }
  });
}

TEST_P(ParallelEmbeddingTest, SplitColumnsMatchDense) {
  run_tensor_parallel(GetParam(), [&](const GroupPtr& group) {
    for (const int64_t dim : {12, 7}) {  // 7 is padded
      for (const bool sequence : {false, true}) {
        for (const int64_t rows : {1, 5}) {  // 1: no rank has rows of its own
          const Tensor table = numbers({rows, dim});
          const Tensor whole = leaf(table);
          const Tensor ids = ids_of({12, 2}, rows);
          const Tensor want = at::embedding(whole, ids, /*padding_idx=*/0);
          want.sin().sum().backward();

          ParallelEmbedding layer(Options(rows, dim)
                                      .dtype(at::kDouble)
                                      .padding_idx(0)
                                      .shard_across_embedding(true)
                                      .pad(dim == 7)
                                      .sequence_parallel_enabled(sequence));
          split_parameter(layer->weight, table);
          const Tensor y = layer(ids);
          expect_close(y, sequence ? part(want, 0, group) : want, 1e-14);
          y.sin().sum().backward();
          const auto spec = get_tensor_parallel_attributes(layer->weight)->spec;
          EXPECT_EQ(spec.dim, 1);
          expect_close(layer->weight.grad(), split(whole.grad(), spec));
        }
      }
    }
    ParallelEmbedding layer(Options(5, 12).shard_across_embedding(true));
    expect_throw<InvalidArgument>([&] { layer(at::tensor({5})); },
                                  "ParallelEmbedding: id 5 is outside [0, 5)");
  });
}

TEST_P(ParallelEmbeddingTest, AddsUpInTheDtypeAskedFor) {
  run_tensor_parallel(GetParam(), [&](const GroupPtr& group) {
    const Tensor table = numbers({7, kDim}).to(at::kBFloat16);
    ParallelEmbedding layer(
        Options(7, kDim).dtype(at::kBFloat16).reduce_dtype(at::kFloat));
    split_parameter(layer->weight, table);
    expect_equal(layer(ids_of({2, 7}, 7)).detach(),
                 at::embedding(table, ids_of({2, 7}, 7)));
    if (group->size() > 1) {
      EXPECT_THAT(group->describe(group->calls().latest()),
                  ::testing::HasSubstr("float32"));
    }
  });
}

TEST_P(ParallelEmbeddingTest, SecondDerivativesAreRight) {
  run_tensor_parallel(GetParam(), [&](const GroupPtr& group) {
    const int64_t rows = (5 + group->size() - 1) / group->size();
    const std::vector<testing::Placed> inputs = {
        {numbers({rows, 2}, group->rank()), Placement::kPerRank}};
    const testing::RankFunction f = {[&](const std::vector<Tensor>& in) {
                                       return functional::parallel_embedding(
                                                  ids_of({6}, 5), in[0],
                                                  {.num_embeddings = 5}, group)
                                           .sin();
                                     },
                                     Placement::kReplicated};
    gradcheck(f, inputs, group);
    gradgradcheck(f, inputs, group);
  });
}

TEST_P(ParallelEmbeddingTest, LowPrecisionIsExact) {
  run_tensor_parallel(GetParam(), [&](const GroupPtr&) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
      const Tensor table = numbers({7, kDim}).to(dtype);
      ParallelEmbedding layer(Options(7, kDim).dtype(dtype));
      split_parameter(layer->weight, table);
      const Tensor ids = ids_of({2, 7}, 7);
      expect_equal(layer(ids).detach(), at::embedding(table, ids));
    }
  });
}

TEST_P(ParallelEmbeddingTest, RefusesIdsOutsideTheTable) {
  run_tensor_parallel(GetParam(), [&](const GroupPtr& group) {
    ParallelEmbedding layer(7, kDim);
    expect_throw<InvalidArgument>(
        [&] {
          layer(at::tensor({0, 7, 3}));
        },
        "ParallelEmbedding: id 7 is outside [0, 7)");
    expect_throw<InvalidArgument>(
        [&] {
          layer(at::tensor({0, -2, 3}));
        },
        "ParallelEmbedding: id -2 is outside [0, 7)");
    expect_throw<InvalidArgument>(
        [&] { layer(at::tensor({0.5})); },
        "ParallelEmbedding: ids are Double; expected Int or Long");
    // Every rank threw before it communicated.
    EXPECT_NO_THROW(group->barrier());
  });
}

TEST_P(ParallelEmbeddingTest, CloneDrawsNothingAndKeepsAttributes) {
  run_tensor_parallel(GetParam(), [&](const GroupPtr&) {
    ParallelEmbedding layer(7, kDim);
    const Tensor before = random_state().replicated;
    const auto copy =
        std::dynamic_pointer_cast<ParallelEmbeddingImpl>(layer->clone());
    expect_equal(random_state().replicated, before);
    expect_equal(copy->weight, layer->weight);
    EXPECT_NE(copy->weight.data_ptr(), layer->weight.data_ptr());
    EXPECT_EQ(get_tensor_parallel_attributes(copy->weight),
              get_tensor_parallel_attributes(layer->weight));
  });
}

TEST_P(ParallelEmbeddingTest, RunsOnMeta) {
  run_tensor_parallel(GetParam(), [&](const GroupPtr&) {
    ParallelEmbedding layer(Options(7, kDim).device(at::kMeta));
    EXPECT_EQ(layer(at::empty({2, 5}, at::device(at::kMeta).dtype(at::kLong)))
                  .sizes(),
              (at::IntArrayRef{2, 5, kDim}));
  });
}

TEST(ParallelEmbedding, RefusesWhatDoesNotFit) {
  run_ranks(1, [] {
    expect_throw<InvalidArgument>(
        [] { ParallelEmbedding(7, kDim); },
        "ParallelEmbedding: there is no tensor-parallel group yet");
  });
  run_tensor_parallel(2, [](const GroupPtr&) {
    expect_throw<InvalidArgument>(
        [] {
          ParallelEmbedding(Options(7, kDim).shard_across_embedding(true));
        },
        "ParallelEmbedding: embedding_dim 3 does not divide over 2 ranks; set "
        "pad to true, or make it 4");
    expect_throw<InvalidArgument>(
        [] { ParallelEmbedding(Options(7, kDim).padding_idx(7)); },
        "ParallelEmbedding: padding_idx 7 is outside [-7, 7)");
    ParallelEmbedding sequence(
        Options(7, kDim).sequence_parallel_enabled(true));
    expect_throw<InvalidArgument>(
        [&] {
          sequence(ids_of({3, 2}, 7));
        },
        "ParallelEmbedding: a sequence of 3 (dim 0 of shape [3, 2, 3]) does "
        "not divide over 2 ranks; pad it to 4");
    expect_throw<InvalidArgument>(
        [] {
          functional::parallel_embedding(ids_of({3}, 7), at::zeros({3, 2}),
                                         {.num_embeddings = 7});
        },
        "ParallelEmbedding: num_embeddings 7 over 2 ranks does not give the 3 "
        "that the weight of this rank has");
  });
}

TEST(ParallelEmbedding, PrintsItself) {
  run_tensor_parallel(1, [](const GroupPtr&) {
    std::ostringstream out;
    out << ParallelEmbedding(Options(7, kDim).padding_idx(-1));
    EXPECT_EQ(out.str(),
              "colonnade::parallel_layers::ParallelEmbedding("
              "num_embeddings=7, embedding_dim=3, padding_idx=6)");
  });
}

}  // namespace
}  // namespace colonnade::parallel_layers

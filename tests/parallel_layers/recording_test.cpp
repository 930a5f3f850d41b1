// tests/parallel_layers/recording_test.cpp
// That layers and mappings make the same dispatcher calls on every rank and at
// every degree while they are recorded, and compute what they always do.
#include "colonnade/parallel_layers/column_parallel_linear.h"
#include "colonnade/parallel_layers/mappings.h"
#include "colonnade/parallel_layers/parallel_embedding.h"
#include "colonnade/parallel_layers/row_parallel_linear.h"
#include "tests/testing/expect.h"
#include "tests/testing/recorded_calls.h"
#include "tests/testing/tensor_parallel.h"

#include <ATen/ops/arange.h>

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

namespace colonnade::parallel_layers {
namespace {

using at::Tensor;
using testing::expect_equal;
using testing::numbers;
using testing::recorded_calls;
using testing::run_tensor_parallel;

using Calls = std::vector<std::string>;
using Forward = std::function<Tensor()>;
/// Builds what is recorded; called on each rank.
using Build = std::function<Forward(const GroupPtr&)>;

Calls calls_of(const Forward& forward) {
  const Tensor want = forward();
  Tensor got;
  Calls calls = recorded_calls([&] { got = forward(); });
  expect_equal(got, want);
  EXPECT_EQ(got.requires_grad(), want.requires_grad());
  return calls;
}

void expect_calls(const Calls& want, const Build& build) {
  for (const int ranks : {1, 2, 4}) {
    run_tensor_parallel(ranks, [&](const GroupPtr& group) {
      EXPECT_EQ(calls_of(build(group)), want) << "at degree " << ranks;
    });
  }
}

// Sizes that divide over 1, 2 and 4 ranks, or over one only.
constexpr int64_t kEven = 12;
constexpr int64_t kOdd = 7;

/// A layer of `options` as it is called with what `input` gives.
template <typename Layer, typename Options>
Build layer_of(const Options& options,
               const std::function<Tensor(const GroupPtr&)>& input) {
  return [=](const GroupPtr& group) -> Forward {
    return [layer = Layer(options), x = input(group)]() mutable {
      return layer(x);
    };
  };
}

Tensor floats(at::IntArrayRef shape, int64_t salt = 1) {
  return numbers(shape, salt).to(at::kFloat);
}

TEST(RecordedColumnParallelLinear, IsOneOpAtEveryDegree) {
  using Options = ColumnParallelLinearOptions;
  const auto expect_one = [](const Options& options, const std::string& call) {
    expect_calls({"colonnade::column_parallel_linear(" + call + ", tp)"},
                 layer_of<ColumnParallelLinear>(options, [](const auto&) {
                   return floats({3, 4, 5});
                 }));
  };
  expect_one(Options(5, kEven), "True, False, 0, 12, [], None");
  expect_one(Options(5, kEven).bias(false).gather_output(false),
             "None, False, False, 0, 12, [], None");
  expect_one(Options(5, kEven).segments({8, 4}),
             "True, False, 0, 12, [8, 4], None");
  expect_one(Options(5, kOdd).pad(true), "True, False, 0, 7, [], None");
  expect_one(Options(5, kOdd).pad(true).gather_output(false),
             "False, False, 0, 7, [], None");
  expect_one(
      Options(5, kEven).sequence_parallel_enabled(true).sequence_dimension(1),
      "True, True, 1, 12, [], None");
}

TEST(RecordedRowParallelLinear, IsOneOpAtEveryDegree) {
  using Options = RowParallelLinearOptions;
  const auto expect_one = [](const Options& options, const std::string& call) {
    expect_calls(
        {"colonnade::row_parallel_linear(" + call + ", tp)"},
        layer_of<RowParallelLinear>(options, [&](const GroupPtr& group) {
          const int64_t size = options.input_size();
          const int64_t ranks = options.input_is_parallel() ? group->size() : 1;
          // In padding there is what must not count.
          return floats({3, 4, (size + ranks - 1) / ranks}, group->rank());
        }));
  };
  expect_one(Options(kEven, 5), "False, False, 0, True, None, 12, []");
  expect_one(Options(kOdd, 5).pad(true), "False, False, 0, True, None, 7, []");
  expect_one(Options(kEven, 5).input_is_parallel(true).bias(false),
             "None, True, False, 0, True, None, 12, []");
  expect_one(Options(kOdd, 5).input_is_parallel(true).pad(true),
             "True, False, 0, True, None, 7, []");
  expect_one(Options(kEven, 5).bias(false).reduce_output(false),
             "None, False, False, 0, False, None, 12, []");
  expect_one(Options(kEven, 5).segments({8, 4}),
             "False, False, 0, True, None, 12, [8, 4]");
  expect_one(Options(kEven, 5).reduce_dtype(at::kDouble),
             "False, False, 0, True, 7, 12, []");
  expect_one(Options(kEven, 5)
                 .input_is_parallel(true)
                 .sequence_parallel_enabled(true)
                 .sequence_dimension(1),
             "True, True, 1, True, None, 12, []");
}

TEST(RecordedParallelEmbedding, IsOneOpAtEveryDegree) {
  using Options = ParallelEmbeddingOptions;
  const auto expect_one = [](const Options& options, const std::string& call) {
    expect_calls({"colonnade::parallel_embedding(" + call + ", tp)"},
                 layer_of<ParallelEmbedding>(options, [](const auto&) {
                   return at::arange(4).expand({3, 4});
                 }));
  };
  expect_one(Options(kEven, 5), "12, None, False, 0, False, 5, None");
  expect_one(Options(5, kEven).shard_across_embedding(true),
             "5, None, False, 0, True, 12, None");
  expect_one(Options(5, kOdd).shard_across_embedding(true).pad(true),
             "5, None, False, 0, True, 7, None");
  expect_one(Options(kOdd, 5).padding_idx(2), "7, 2, False, 0, False, 5, None");
  expect_one(
      Options(kOdd, 5).sequence_parallel_enabled(true).sequence_dimension(1),
      "7, None, True, 1, False, 5, None");
}

TEST(RecordedMappings, AreCalledForAGroupOfOneToo) {
  const auto expect_one = [](const std::string& call,
                             const std::function<Tensor(const Tensor&)>& f) {
    expect_calls({"colonnade::" + call}, [&](const GroupPtr&) -> Forward {
      return [f, x = numbers({4, 8}).requires_grad_()] { return f(x); };
    });
  };
  expect_one(
      "copy_to_tensor_model_parallel_region(tp, None)",
      [](const Tensor& x) { return copy_to_tensor_model_parallel_region(x); });
  expect_one("reduce_from_tensor_model_parallel_region(tp)",
             [](const Tensor& x) {
               return reduce_from_tensor_model_parallel_region(x);
             });
  expect_one("scatter_to_tensor_model_parallel_region(-1, tp)",
             [](const Tensor& x) {
               return scatter_to_tensor_model_parallel_region(x);
             });
  expect_one("gather_from_tensor_model_parallel_region(-1, tp)",
             [](const Tensor& x) {
               return gather_from_tensor_model_parallel_region(x);
             });
  expect_one("scatter_to_sequence_parallel_region(0, tp)", [](const Tensor& x) {
    return scatter_to_sequence_parallel_region(x);
  });
  expect_one(
      "gather_from_sequence_parallel_region(0, True, tp, None)",
      [](const Tensor& x) { return gather_from_sequence_parallel_region(x); });
  expect_one("reduce_scatter_to_sequence_parallel_region(0, tp)",
             [](const Tensor& x) {
               return reduce_scatter_to_sequence_parallel_region(x);
             });
}

}  // namespace
}  // namespace colonnade::parallel_layers

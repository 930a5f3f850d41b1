// tests/parallel_layers/mappings_test.cpp
#include "colonnade/parallel_layers/mappings.h"

#include "colonnade/comm/rank_context.h"
#include "colonnade/core/error.h"
#include "colonnade/launch/launch.h"
#include "tests/testing/expect.h"
#include "tests/testing/gradcheck.h"
#include "tests/testing/tensor_parallel.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace colonnade::parallel_layers {
namespace {

using at::Tensor;
using testing::expect_close;
using testing::expect_equal;
using testing::expect_throw;
using testing::numbers;
using testing::part;
using testing::Placement;
using testing::run_tensor_parallel;

/// One mapping, with what it does to the whole program.
struct Mapping {
  std::string name;
  std::function<Tensor(const Tensor&, int64_t dim, const GroupPtr&)> call;
  Placement input;
  Placement output;
  /// The output of rank `rank`, from every rank's input.
  std::function<Tensor(const std::vector<Tensor>& inputs, int64_t dim,
                       int64_t rank)>
      want;
};

Tensor sum_of(const std::vector<Tensor>& inputs) {
  Tensor sum = at::zeros_like(inputs[0]);
  for (const Tensor& input : inputs) {
    sum = sum + input;
  }
  return sum;
}

Tensor own_part(const Tensor& whole, int64_t dim, int64_t rank, size_t ranks) {
  return whole.chunk(static_cast<int64_t>(ranks), dim)[rank];
}

std::vector<Mapping> mappings() {
  const auto whole = [](const auto& inputs, int64_t dim, int64_t) {
    return at::cat(inputs, dim);
  };
  const auto own = [](const auto& inputs, int64_t dim, int64_t rank) {
    return own_part(inputs[0], dim, rank, inputs.size());
  };
  return {
      {"copy_to",
       [](const Tensor& x, int64_t, const GroupPtr& group) {
         return copy_to_tensor_model_parallel_region(x, group);
       },
       Placement::kReplicated, Placement::kPerRank,
       [](const auto& inputs, int64_t, int64_t) { return inputs[0]; }},
      {"reduce_from",
       [](const Tensor& x, int64_t, const GroupPtr& group) {
         return reduce_from_tensor_model_parallel_region(x, group);
       },
       Placement::kPerRank, Placement::kReplicated,
       [](const auto& inputs, int64_t, int64_t) { return sum_of(inputs); }},
      {"scatter_to", &scatter_to_tensor_model_parallel_region,
       Placement::kReplicated, Placement::kPerRank, own},
      {"gather_from", &gather_from_tensor_model_parallel_region,
       Placement::kPerRank, Placement::kReplicated, whole},
      {"scatter_to_sequence", &scatter_to_sequence_parallel_region,
       Placement::kReplicated, Placement::kPerRank, own},
      {"gather_from_sequence",
       [](const Tensor& x, int64_t dim, const GroupPtr& group) {
         return gather_from_sequence_parallel_region(x, dim, true, group);
       },
       Placement::kPerRank, Placement::kPerRank, whole},
      {"gather_from_sequence alike",
       [](const Tensor& x, int64_t dim, const GroupPtr& group) {
         return gather_from_sequence_parallel_region(x, dim, false, group);
       },
       Placement::kPerRank, Placement::kReplicated, whole},
      {"reduce_scatter", &reduce_scatter_to_sequence_parallel_region,
       Placement::kPerRank, Placement::kPerRank,
       [](const auto& inputs, int64_t dim, int64_t rank) {
         return own_part(sum_of(inputs), dim, rank, inputs.size());
       }},
  };
}

/// Every rank's input of a mapping, of `shape`.
std::vector<Tensor> inputs_of(const Mapping& mapping, int ranks,
                              at::IntArrayRef shape) {
  std::vector<Tensor> inputs;
  for (int rank = 0; rank < ranks; ++rank) {
    inputs.push_back(
        numbers(shape, mapping.input == Placement::kPerRank ? rank : 0));
  }
  return inputs;
}

class MappingsTest : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, MappingsTest, ::testing::Values(1, 2, 3, 4));

TEST_P(MappingsTest, ValuesAreThoseOfTheWholeProgram) {
  const int ranks = GetParam();
  const std::vector<std::vector<int64_t>> shapes = {
      {12}, {12, 5}, {2, 12, 3}, {3, 2, 12}, {2, 1, 12, 2}, {0, 12}, {12, 0}};
  run_tensor_parallel(ranks, [&](const GroupPtr& group) {
    for (const Mapping& mapping : mappings()) {
      for (const auto& shape : shapes) {
        const auto inputs = inputs_of(mapping, ranks, shape);
        for (int64_t dim = 0; dim < inputs[0].dim(); ++dim) {
          if (shape[dim] != 12) {
            continue;
          }
          const Tensor want = mapping.want(inputs, dim, group->rank());
          const std::string what = mapping.name + ", dim " +
                                   std::to_string(dim) + " of " +
                                   std::to_string(shape.size());
          const Tensor& x = inputs[group->rank()];
          expect_close(mapping.call(x, dim, nullptr), want, 1e-14, what);
          expect_close(mapping.call(x, dim - x.dim(), group), want, 1e-14,
                       what);
        }
      }
    }
  });
}

TEST_P(MappingsTest, TakesEveryDtypeAndNonContiguousInputs) {
  const int ranks = GetParam();
  run_tensor_parallel(ranks, [&](const GroupPtr& group) {
    for (const at::ScalarType dtype :
         {at::kFloat, at::kBFloat16, at::kHalf, at::kLong}) {
      for (const Mapping& mapping : mappings()) {
        auto inputs = inputs_of(mapping, ranks, {12, 6, 4});
        for (Tensor& input : inputs) {
          // Small integers: sums are exact in every dtype.
          input = input.mul(4).round().to(dtype).transpose(0, 2);
        }
        const Tensor got =
            mapping.call(inputs[group->rank()], /*dim=*/2, group);
        expect_equal(got, mapping.want(inputs, 2, group->rank()).to(dtype),
                     mapping.name);
      }
    }
  });
}

TEST_P(MappingsTest, GradientsAreThoseOfTheWholeProgram) {
  const int ranks = GetParam();
  run_tensor_parallel(ranks, [&](const GroupPtr& group) {
    for (const Mapping& mapping : mappings()) {
      for (const int64_t dim : {0, 1}) {
        std::vector<int64_t> shape = {2, 2};
        shape[dim] = ranks;
        const testing::RankFunction f = {[&](const std::vector<Tensor>& x) {
                                           const Tensor y = mapping.call(
                                               x[0] * x[0] * x[0], dim, group);
                                           return y * y;
                                         },
                                         mapping.output};
        const Tensor x = inputs_of(mapping, ranks, shape)[group->rank()];
        gradcheck(f, {{x, mapping.input}}, group, mapping.name);
        gradgradcheck(f, {{x, mapping.input}}, group, mapping.name);
      }
    }
  });
}

TEST_P(MappingsTest, BackwardLeavesTheGradientItGetsAlone) {
  run_tensor_parallel(GetParam(), [&](const GroupPtr& group) {
    const Tensor x = testing::leaf(numbers({4, 3}));
    const Tensor y = copy_to_tensor_model_parallel_region(x, group);
    // Expanded: all elements share memory.
    y.sum().backward();
    expect_equal(x.grad(), at::full({4, 3}, group->size(), at::kDouble));
    const Tensor grad = numbers({4, 3}, group->rank());
    const Tensor kept = grad.clone();
    copy_to_tensor_model_parallel_region(x, group).backward(grad);
    expect_equal(grad, kept);
  });
}

TEST_P(MappingsTest, BackwardRunsOnAnyThread) {
  run_tensor_parallel(GetParam(), [&](const GroupPtr& group) {
    const Tensor x = testing::leaf(numbers({4, 3}, group->rank()));
    const Tensor y = reduce_from_tensor_model_parallel_region(
        copy_to_tensor_model_parallel_region(x * x, group), group);
    std::thread([&] { y.sum().backward(); }).join();
    expect_close(x.grad(), 2.0 * group->size() * x, 1e-14);
  });
}

TEST_P(MappingsTest, MakesNoGraphWithoutGradients) {
  run_tensor_parallel(GetParam(), [&](const GroupPtr& group) {
    for (const Mapping& mapping : mappings()) {
      const Tensor x = testing::leaf(numbers({12, 2}));
      {
        const at::NoGradGuard no_grad;
        EXPECT_FALSE(mapping.call(x * 1, 0, group).requires_grad());
      }
      const Tensor want = mapping.call(x, 0, group).detach();
      const c10::InferenceMode inference;
      const Tensor got = mapping.call(x * 1, 0, group);
      EXPECT_TRUE(got.is_inference());
      expect_equal(got, want, mapping.name);
      expect_equal(mapping.call(x, 0, group), want, mapping.name);
    }
  });
}

TEST_P(MappingsTest, CopyIsAViewThatRefusesChangesInPlace) {
  run_tensor_parallel(GetParam(), [&](const GroupPtr& group) {
    const Tensor x = numbers({4});
    EXPECT_EQ(copy_to_tensor_model_parallel_region(x, group).data_ptr(),
              x.data_ptr());
    if (group->size() == 1) {
      return;
    }
    const Tensor y =
        copy_to_tensor_model_parallel_region(testing::leaf(x) * 1, group);
    EXPECT_TRUE(y.is_view());
    expect_throw<c10::Error>([&] { y.mul_(2); }, "modified inplace");
    const at::NoGradGuard no_grad;
    const auto version = x._version();
    copy_to_tensor_model_parallel_region(x, group).mul_(2);
    EXPECT_GT(x._version(), version);
  });
}

TEST_P(MappingsTest, GroupOfOneIsTheIdentity) {
  run_tensor_parallel(1, [&](const GroupPtr& group) {
    const Tensor x = numbers({4});
    for (const Mapping& mapping : mappings()) {
      EXPECT_TRUE(mapping.call(x, 0, group).is_same(x)) << mapping.name;
    }
  });
}

TEST_P(MappingsTest, WorksOutShapesOnMeta) {
  const int ranks = GetParam();
  run_tensor_parallel(ranks, [&](const GroupPtr& group) {
    for (const Mapping& mapping : mappings()) {
      const auto inputs = inputs_of(mapping, ranks, {2, 12});
      const Tensor got =
          mapping.call(inputs[group->rank()].to(at::kMeta), 1, group);
      EXPECT_TRUE(got.is_meta());
      EXPECT_EQ(got.sizes(), mapping.want(inputs, 1, group->rank()).sizes())
          << mapping.name;
    }
  });
}

TEST_P(MappingsTest, RecomputedForwardHasItsGroup) {
  // A checkpointed region runs forward again inside backward, which may be on
  // another thread: there the nodes' saved context is what it finds.
  run_tensor_parallel(GetParam(), [&](const GroupPtr& group) {
    const Tensor x = testing::leaf(numbers({3, 2}));
    const Tensor y = copy_to_tensor_model_parallel_region(x * 1, group);
    const RankContextPtr context = RankContext::current();
    y.register_hook([&](const Tensor& grad) {
      const at::AutoGradMode on(true);
      const RankContextScope scope(context);
      const Tensor inner = testing::leaf(x);
      const Tensor again =
          reduce_from_tensor_model_parallel_region(inner * inner, nullptr);
      again.sum().backward();
      return grad * inner.grad();
    });
    std::thread([&] { y.sum().backward(); }).join();
    expect_close(x.grad(), 2.0 * group->size() * x, 1e-14);
  });
}

TEST(Mappings, RefusesWhatItCannotSplit) {
  run_tensor_parallel(2, [](const GroupPtr& group) {
    expect_throw<InvalidArgument>(
        [&] {
          scatter_to_tensor_model_parallel_region(numbers({2, 7}), 1);
        },
        "scatter_to_tensor_model_parallel_region: size 7 of dim 1 of a tensor "
        "of shape [2, 7] does not divide over 2 ranks; pad it to 8");
    expect_throw<InvalidArgument>(
        [&] {
          reduce_scatter_to_sequence_parallel_region(numbers({3, 2}), 0, group);
        },
        "reduce_scatter_to_sequence_parallel_region: size 3 of dim 0");
    expect_throw<InvalidArgument>(
        [&] {
          gather_from_tensor_model_parallel_region(numbers({2, 7}), 2);
        },
        "gather_from_tensor_model_parallel_region: dim 2 is outside of a "
        "tensor of shape [2, 7]");
  });
}

TEST(Mappings, NeedsAGroupOfThisRank) {
  GroupPtr other;
  run_tensor_parallel(1, [&](const GroupPtr& group) { other = group; });
  run_ranks(1, [&] {
    expect_throw<InvalidArgument>(
        [] { copy_to_tensor_model_parallel_region(numbers({2})); },
        "copy_to_tensor_model_parallel_region: there is no tensor-parallel "
        "group yet; call parallel_state::initialize_model_parallel first");
    expect_throw<InvalidArgument>(
        [&] { reduce_from_tensor_model_parallel_region(numbers({2}), other); },
        "the group \"tp\" is not one of this rank's");
  });
}

}  // namespace
}  // namespace colonnade::parallel_layers

// tests/parallel_layers/sum_gradients_over_sequence_test.cpp
#include "colonnade/comm/rank_context.h"
#include "colonnade/parallel_layers/average_gradients.h"
#include "colonnade/parallel_layers/column_parallel_linear.h"
#include "colonnade/parallel_layers/mappings.h"
#include "colonnade/parallel_layers/row_parallel_linear.h"
#include "colonnade/parallel_layers/sharding.h"
#include "tests/testing/expect.h"
#include "tests/testing/tensor_parallel.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/nn/module.h>
#include <torch/nn/modules/normalization.h>

#include <gtest/gtest.h>

namespace colonnade::parallel_layers {
namespace {

using at::Tensor;
using testing::expect_close;
using testing::expect_equal;
using testing::numbers;
using testing::run_tensor_parallel;

constexpr int64_t kSequence = 12;
constexpr int64_t kHidden = 4;

/// A LayerNorm in front of two layers that are sequence-parallel or not. Both
/// have the same collectives' results; only what each rank sees of the
/// sequence between the layers differs.
struct Block : torch::nn::Module {
  explicit Block(bool sequence_parallel_)
      : sequence_parallel(sequence_parallel_) {
    norm = register_module(
        "norm", torch::nn::LayerNorm(torch::nn::LayerNormOptions({kHidden})));
    up = register_module(
        "up", ColumnParallelLinear(
                  ColumnParallelLinearOptions(kHidden, 12)
                      .gather_output(false)
                      .sequence_parallel_enabled(sequence_parallel)));
    down = register_module(
        "down",
        RowParallelLinear(RowParallelLinearOptions(12, kHidden)
                              .input_is_parallel(true)
                              .sequence_parallel_enabled(sequence_parallel)));
    to(at::kDouble);
    const at::NoGradGuard no_grad;
    norm->weight.copy_(numbers({kHidden}, 1));
  }

  /// x [sequence, hidden], whole; output as x.
  Tensor forward(const Tensor& x) {
    if (!sequence_parallel) {
      return x + down(at::gelu(up(norm(x))));
    }
    const Tensor own = scatter_to_sequence_parallel_region(x);
    return gather_from_sequence_parallel_region(
        own + down(at::gelu(up(norm(own)))), 0, /*to_model_parallel=*/false);
  }

  bool sequence_parallel;
  torch::nn::LayerNorm norm{nullptr};
  ColumnParallelLinear up{nullptr};
  RowParallelLinear down{nullptr};
};

class SumGradientsOverSequenceTest : public ::testing::TestWithParam<int> {};

TEST_P(SumGradientsOverSequenceTest, GivesTheGradientsOfTheWholeSequence) {
  run_tensor_parallel(GetParam(), [&](const GroupPtr&) {
    manual_seed(1);
    Block whole(false);
    manual_seed(1);
    Block split(true);
    // Twice, and on a part once more: each parameter is summed once.
    sum_gradients_over_sequence(split);
    sum_gradients_over_sequence(split);
    sum_gradients_over_sequence(*split.norm);
    for (int64_t micro_batch = 0; micro_batch < 2; ++micro_batch) {
      const Tensor x = numbers({kSequence, kHidden}, micro_batch);
      whole.forward(x).square().sum().backward();
      split.forward(x).square().sum().backward();
    }
    const auto want = whole.named_parameters();
    for (const auto& parameter : split.named_parameters()) {
      expect_close(parameter.value().grad(), want[parameter.key()].grad(),
                   1e-10, parameter.key());
    }
  });
}

TEST_P(SumGradientsOverSequenceTest, GivesSecondDerivatives) {
  run_tensor_parallel(GetParam(), [&](const GroupPtr&) {
    manual_seed(1);
    Block whole(false);
    manual_seed(1);
    Block split(true);
    sum_gradients_over_sequence(split);
    const Tensor x = numbers({kSequence, kHidden});
    const auto second = [&](Block& block) {
      const Tensor grad = torch::autograd::grad({block.forward(x).pow(3).sum()},
                                                {block.norm->weight}, {}, {},
                                                /*create_graph=*/true)[0];
      return torch::autograd::grad({grad.square().sum()},
                                   {block.norm->weight})[0];
    };
    expect_close(second(split), second(whole));
  });
}

/// The gradient of a norm's bias, of which each rank's part is its rank + 1.
double bias_gradient(torch::nn::LayerNorm& norm, int64_t rank) {
  norm->zero_grad();
  norm(at::ones({rank + 1, kHidden})).sum().backward();
  return norm->bias.grad()[0].item<double>();
}

TEST(SumGradientsOverSequence, HoldsForParametersThatAreFrozenAtFirst) {
  run_tensor_parallel(2, [&](const GroupPtr& group) {
    torch::nn::LayerNorm norm(torch::nn::LayerNormOptions({kHidden}));
    norm->bias.set_requires_grad(false);
    sum_gradients_over_sequence(*norm);
    EXPECT_FALSE(norm->bias.requires_grad());
    norm->bias.set_requires_grad(true);
    EXPECT_EQ(bias_gradient(norm, group->rank()), 1 + 2);
  });
}

TEST(SumGradientsOverSequence, SumsOverEachGroupOnce) {
  run_on_ranks(4, [&] {
    parallel_state::initialize_model_parallel(2);
    const int64_t rank = RankContext::current()->world()->rank();
    const GroupPtr columns =
        parallel_state::new_group("columns", {rank % 2, rank % 2 + 2});
    torch::nn::LayerNorm norm(torch::nn::LayerNormOptions({kHidden}));
    for (int i = 0; i < 2; ++i) {
      sum_gradients_over_sequence(*norm);
      sum_gradients_over_sequence(*norm, columns);
    }
    EXPECT_EQ(bias_gradient(norm, rank), 1 + 2 + 3 + 4);
  });
}

TEST(SumGradientsOverSequence, OutlivesItsGroup) {
  run_tensor_parallel(2, [&](const GroupPtr& group) {
    torch::nn::LayerNorm norm(torch::nn::LayerNormOptions({kHidden}));
    sum_gradients_over_sequence(*norm);
    parallel_state::destroy_model_parallel();
    parallel_state::initialize_model_parallel(2);
    sum_gradients_over_sequence(*norm);
    EXPECT_EQ(bias_gradient(norm, group->rank()), 1 + 2);
  });
}

INSTANTIATE_TEST_SUITE_P(Ranks, SumGradientsOverSequenceTest,
                         ::testing::Values(1, 2, 3, 4));

TEST(SumGradientsOverSequence, LeavesAGroupOfOneAlone) {
  run_tensor_parallel(1, [&](const GroupPtr&) {
    torch::nn::LayerNorm norm(torch::nn::LayerNormOptions({kHidden}));
    sum_gradients_over_sequence(*norm);
    norm(at::ones({2, kHidden})).sum().backward();
    expect_equal(norm->bias.grad(), at::full({kHidden}, 2.0f));
  });
}

}  // namespace
}  // namespace colonnade::parallel_layers

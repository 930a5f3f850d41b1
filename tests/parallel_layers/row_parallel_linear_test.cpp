// tests/parallel_layers/row_parallel_linear_test.cpp
#include "colonnade/parallel_layers/row_parallel_linear.h"

#include "colonnade/core/error.h"
#include "colonnade/launch/launch.h"
#include "colonnade/parallel_layers/functional.h"
#include "colonnade/parallel_layers/mappings.h"
#include "colonnade/sharding/attributes.h"
#include "colonnade/sharding/split_join.h"
#include "tests/testing/expect.h"
#include "tests/testing/gradcheck.h"
#include "tests/testing/tensor_parallel.h"

#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/linear.h>

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
using Options = RowParallelLinearOptions;

constexpr int64_t kIn = 12;
constexpr int64_t kOut = 5;

struct Dense {
  Tensor y, x_grad, weight_grad, bias_grad;
};

Tensor dense_weight(int64_t in = kIn) {
  return numbers({kOut, in}, 3);
}
Tensor dense_bias() {
  return numbers({kOut}, 4);
}

Dense run_dense(const Tensor& whole_x, bool with_bias = true) {
  const Tensor x = leaf(whole_x);
  const Tensor weight = leaf(dense_weight(whole_x.size(-1)));
  const Tensor bias = leaf(dense_bias());
  const Tensor y = at::linear(
      x, weight, with_bias ? std::optional<Tensor>(bias) : std::nullopt);
  y.sin().sum().backward();
  return {y.detach(), x.grad(), weight.grad(), bias.grad()};
}

RowParallelLinear make_layer(Options options) {
  options.dtype(at::kDouble);
  RowParallelLinear layer(options);
  split_parameter(layer->weight, dense_weight(options.input_size()));
  if (options.bias()) {
    split_parameter(layer->bias, dense_bias());
  }
  return layer;
}

void expect_parameter_grads(const RowParallelLinear& layer, const Dense& want,
                            const std::string& what) {
  const auto spec = get_tensor_parallel_attributes(layer->weight)->spec;
  expect_close(layer->weight.grad(), split(want.weight_grad, spec), 1e-10,
               what + ", weight");
  if (layer->bias.defined()) {
    expect_close(layer->bias.grad(), want.bias_grad, 1e-10, what + ", bias");
  }
}

const std::vector<std::vector<int64_t>> kInputShapes = {
    {kIn}, {3, kIn}, {2, 3, kIn}, {2, 1, 3, kIn}, {0, kIn}, {2, 0, kIn}};

class RowParallelLinearTest : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, RowParallelLinearTest,
                         ::testing::Values(1, 2, 3, 4));

TEST_P(RowParallelLinearTest, OutputAndGradientsMatchDense) {
  run_tensor_parallel(GetParam(), [&](const GroupPtr& group) {
    for (const bool bias : {true, false}) {
      for (const bool parallel : {true, false}) {
        for (const auto& shape : kInputShapes) {
          const std::string what = "dims " + std::to_string(shape.size()) +
                                   (bias ? " bias" : "") +
                                   (parallel ? " parallel" : "");
          const Tensor whole_x = numbers(shape);
          const Dense want = run_dense(whole_x, bias);
          RowParallelLinear layer = make_layer(
              Options(kIn, kOut).bias(bias).input_is_parallel(parallel));
          const Tensor x = leaf(parallel ? part(whole_x, -1, group) : whole_x);
          const Tensor y = layer(x);
          expect_close(y, want.y, 1e-10, what);
          y.sin().sum().backward();
          expect_close(x.grad(),
                       parallel ? part(want.x_grad, -1, group) : want.x_grad,
                       1e-10, what);
          expect_parameter_grads(layer, want, what);
        }
      }
    }
  });
}

TEST_P(RowParallelLinearTest, SequenceParallelMatchesDense) {
  run_tensor_parallel(GetParam(), [&](const GroupPtr& group) {
    for (const int64_t dim : {0, 1, -2}) {
      const Tensor whole_x = numbers({12, 12, kIn});
      const Dense want = run_dense(whole_x);
      RowParallelLinear layer = make_layer(Options(kIn, kOut)
                                               .input_is_parallel(true)
                                               .sequence_parallel_enabled(true)
                                               .sequence_dimension(dim));
      const Tensor x = leaf(part(whole_x, -1, group));
      const Tensor y = layer(x);
      expect_close(y, part(want.y, dim, group));
      y.sin().sum().backward();
      expect_close(x.grad(), part(want.x_grad, -1, group));
      // The bias too: its parts of the sequence are summed in the graph.
      expect_parameter_grads(layer, want, "sequence parallel");
    }
  });
}

TEST_P(RowParallelLinearTest, PadsAnInputThatDoesNotDivide) {
  const int ranks = GetParam();
  run_tensor_parallel(ranks, [&](const GroupPtr& group) {
    const int64_t in = 7;
    const Tensor whole_x = numbers({2, in});
    const Dense want = run_dense(whole_x);
    const int64_t own = (in + ranks - 1) / ranks;
    for (const bool parallel : {true, false}) {
      RowParallelLinear layer =
          make_layer(Options(in, kOut).pad(true).input_is_parallel(parallel));
      // What a caller holds in the padding must not matter.
      const Tensor padded =
          at::constant_pad_nd(whole_x, {0, own * ranks - in}, 9.0);
      const Tensor x = leaf(parallel ? part(padded, -1, group) : whole_x);
      const Tensor y = layer(x);
      expect_close(y, want.y);
      y.sin().sum().backward();
      const Tensor padded_grad =
          at::constant_pad_nd(want.x_grad, {0, own * ranks - in});
      expect_close(x.grad(),
                   parallel ? part(padded_grad, -1, group) : want.x_grad);
      expect_parameter_grads(layer, want, "padded");
    }
  });
}

TEST_P(RowParallelLinearTest, LeavesPartialSumsToItsCaller) {
  run_tensor_parallel(GetParam(), [&](const GroupPtr& group) {
    const Tensor x = numbers({3, kIn});
    RowParallelLinear layer = make_layer(
        Options(kIn, kOut).bias(false).input_is_parallel(true).reduce_output(
            false));
    const Tensor y = layer(part(x, -1, group));
    expect_close(reduce_from_tensor_model_parallel_region(y),
                 at::linear(x, dense_weight()));
  });
}

TEST_P(RowParallelLinearTest, SkipsTheBiasForItsCaller) {
  run_tensor_parallel(GetParam(), [&](const GroupPtr&) {
    const Tensor x = numbers({3, kIn});
    RowParallelLinear layer =
        make_layer(Options(kIn, kOut).skip_bias_add(true));
    expect_close(layer(x), at::linear(x, dense_weight()));
    expect_close(layer(x) + layer->skipped_bias(),
                 at::linear(x, dense_weight(), dense_bias()));
    EXPECT_FALSE(
        make_layer(Options(kIn, kOut).bias(false))->skipped_bias().defined());
  });
}

TEST_P(RowParallelLinearTest, ASkippedBiasHasItsWholeGradient) {
  run_tensor_parallel(GetParam(), [&](const GroupPtr& group) {
    for (const bool in_parts : {true, false}) {
      const Tensor whole_x = numbers({12, 2, kIn});
      const Dense want = run_dense(whole_x);
      RowParallelLinear layer =
          make_layer(Options(kIn, kOut)
                         .input_is_parallel(true)
                         .sequence_parallel_enabled(in_parts)
                         .skip_bias_add(true));
      const Tensor y = layer(part(whole_x, -1, group)) + layer->skipped_bias();
      expect_close(y, in_parts ? part(want.y, 0, group) : want.y);
      y.sin().sum().backward();
      expect_parameter_grads(layer, want, in_parts ? "in parts" : "whole");
    }
  });
}

TEST_P(RowParallelLinearTest, SegmentsAreSplitEachByItself) {
  run_tensor_parallel(GetParam(), [&](const GroupPtr& group) {
    const std::vector<int64_t> sizes = {24, 12, 12};
    const Tensor whole_x = numbers({2, 48});
    const Dense want = run_dense(whole_x);
    const auto parts_of = [&](const Tensor& whole) {
      std::vector<Tensor> parts = whole.split_with_sizes(sizes, -1);
      for (Tensor& segment : parts) {
        segment = part(segment, -1, group);
      }
      return at::cat(parts, -1);
    };
    for (const bool parallel : {true, false}) {
      RowParallelLinear layer = make_layer(
          Options(48, kOut).segments(sizes).input_is_parallel(parallel));
      const Tensor x = leaf(parallel ? parts_of(whole_x) : whole_x);
      const Tensor y = layer(x);
      expect_close(y, want.y);
      y.sin().sum().backward();
      expect_close(x.grad(), parallel ? parts_of(want.x_grad) : want.x_grad);
      expect_parameter_grads(layer, want, "segments");
    }
  });
}

TEST_P(RowParallelLinearTest, ReducesInTheDtypeAskedFor) {
  const int ranks = GetParam();
  run_tensor_parallel(ranks, [&](const GroupPtr&) {
    // 256 + 1 is 256 in bf16: lost if the sum over ranks is taken in it.
    const Tensor x = at::ones({1, kIn}, at::kBFloat16);
    Tensor weight = at::zeros({1, kIn}, at::kBFloat16);
    weight[0][0] = 256;
    if (ranks > 1) {
      weight[0][kIn - 1] = 1;
      weight[0][kIn / ranks] = weight[0][kIn / ranks].item<double>() + 1;
    }
    RowParallelLinear layer(Options(kIn, 1)
                                .dtype(at::kBFloat16)
                                .bias(false)
                                .reduce_dtype(at::kFloat));
    split_parameter(layer->weight, weight);
    const Tensor y = layer(x);
    EXPECT_EQ(y.scalar_type(), at::kBFloat16);
    EXPECT_EQ(y.item<double>(), ranks > 1 ? 258 : 256);
  });
}

TEST_P(RowParallelLinearTest, SecondDerivativesAreRight) {
  run_tensor_parallel(GetParam(), [&](const GroupPtr& group) {
    for (const bool parallel : {true, false}) {
      const testing::RankFunction f = {
          [&](const std::vector<Tensor>& in) {
            return functional::row_parallel_linear(
                       in[0], in[1], in[2], {.input_is_parallel = parallel},
                       group)
                .sin();
          },
          Placement::kReplicated};
      const std::vector<testing::Placed> inputs = {
          parallel ? testing::Placed{numbers({2, 1}, group->rank()),
                                     Placement::kPerRank}
                   : testing::Placed{numbers({2, group->size()}),
                                     Placement::kReplicated},
          {numbers({2, 1}, group->rank()), Placement::kPerRank},
          {numbers({2}), Placement::kReplicated}};
      gradcheck(f, inputs, group);
      gradgradcheck(f, inputs, group);
    }
  });
}

TEST_P(RowParallelLinearTest, LowPrecisionMatchesDense) {
  run_tensor_parallel(GetParam(), [&](const GroupPtr&) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
      const double tolerance = dtype == at::kFloat      ? 1e-5
                               : dtype == at::kBFloat16 ? 5e-2
                                                        : 5e-3;
      const Tensor x = numbers({2, 3, kIn});
      RowParallelLinear layer(Options(kIn, kOut).dtype(dtype));
      split_parameter(layer->weight, dense_weight().to(dtype));
      split_parameter(layer->bias, dense_bias().to(dtype));
      const Tensor y = layer(x.to(dtype));
      expect_close(y, at::linear(x, dense_weight(), dense_bias()).to(dtype),
                   tolerance);
      y.sum().backward();
      expect_close(layer->bias.grad(), at::full({kOut}, 6, dtype), tolerance);
    }
  });
}

TEST_P(RowParallelLinearTest, OnlyTheWeightIsAShard) {
  run_tensor_parallel(GetParam(), [&](const GroupPtr& group) {
    RowParallelLinear layer(kIn, kOut);
    const auto attributes = get_tensor_parallel_attributes(layer->weight);
    ASSERT_TRUE(attributes);
    EXPECT_EQ(attributes->spec,
              ShardSpec::even(1, kIn, group->rank(), group->size()));
    EXPECT_FALSE(get_tensor_parallel_attributes(layer->bias));
  });
}

TEST_P(RowParallelLinearTest, CloneDrawsNothingAndKeepsAttributes) {
  run_tensor_parallel(GetParam(), [&](const GroupPtr&) {
    RowParallelLinear layer(kIn, kOut);
    const Tensor before = random_state().replicated;
    const auto copy =
        std::dynamic_pointer_cast<RowParallelLinearImpl>(layer->clone());
    expect_equal(random_state().replicated, before);
    expect_equal(copy->weight, layer->weight);
    expect_equal(copy->bias, layer->bias);
    EXPECT_NE(copy->bias.data_ptr(), layer->bias.data_ptr());
    EXPECT_EQ(get_tensor_parallel_attributes(copy->weight),
              get_tensor_parallel_attributes(layer->weight));
    EXPECT_FALSE(get_tensor_parallel_attributes(copy->bias));
  });
}

TEST(RowParallelLinear, RefusesWhatDoesNotFit) {
  run_ranks(1, [] {
    expect_throw<InvalidArgument>(
        [] { RowParallelLinear(kIn, kOut); },
        "RowParallelLinear: there is no tensor-parallel group yet");
  });
  run_tensor_parallel(2, [](const GroupPtr&) {
    expect_throw<InvalidArgument>(
        [] { RowParallelLinear(7, kOut); },
        "RowParallelLinear: input_size 7 does not divide over 2 ranks; set "
        "pad to true, or make it 8");
    expect_throw<InvalidArgument>(
        [] {
          RowParallelLinear(Options(kIn, kOut).sequence_parallel_enabled(true));
        },
        "RowParallelLinear: sequence_parallel_enabled needs "
        "input_is_parallel; set it to true");
    expect_throw<InvalidArgument>(
        [] { RowParallelLinear(Options(kIn, kOut).reduce_output(false)); },
        "RowParallelLinear: a bias cannot be added to an output that is not "
        "reduced; set bias to false or skip_bias_add to true");
    RowParallelLinear whole(kIn, kOut);
    expect_throw<InvalidArgument>(
        [&] {
          whole(at::zeros({2, 6}));
        },
        "RowParallelLinear: the input has shape [2, 6]; expected [..., 12]");
    RowParallelLinear parallel(Options(kIn, kOut).input_is_parallel(true));
    expect_throw<InvalidArgument>(
        [&] {
          parallel(at::zeros({2, kIn}));
        },
        "RowParallelLinear: the input has shape [2, 12]; expected [..., 6]");
    expect_throw<InvalidArgument>(
        [&] {
          parallel(at::zeros({2, 6}, at::kHalf));
        },
        "RowParallelLinear: the input is Half, the weight Float");
    RowParallelLinear sequence(
        Options(kIn, kOut).input_is_parallel(true).sequence_parallel_enabled(
            true));
    expect_throw<InvalidArgument>(
        [&] {
          sequence(at::zeros({3, 2, 6}));
        },
        "RowParallelLinear: a sequence of 3 (dim 0 of shape [3, 2, 6]) does "
        "not divide over 2 ranks; pad it to 4");
  });
}

TEST(RowParallelLinear, PrintsItself) {
  run_tensor_parallel(1, [](const GroupPtr&) {
    std::ostringstream out;
    out << RowParallelLinear(Options(kIn, kOut).bias(false));
    EXPECT_EQ(out.str(),
              "colonnade::parallel_layers::RowParallelLinear(input_size=12, "
              "output_size=5, bias=false, input_is_parallel=false)");
  });
}

}  // namespace
}  // namespace colonnade::parallel_layers

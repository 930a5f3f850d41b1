// tests/parallel_layers/column_parallel_linear_test.cpp
#include "colonnade/parallel_layers/column_parallel_linear.h"

#include "colonnade/core/error.h"
#include "colonnade/launch/launch.h"
#include "colonnade/parallel_layers/functional.h"
#include "colonnade/parallel_layers/mappings.h"
#include "colonnade/sharding/attributes.h"
#include "colonnade/sharding/split_join.h"
#include "tests/testing/expect.h"
#include "tests/testing/gradcheck.h"
#include "tests/testing/tensor_parallel.h"

#include <ATen/ops/cat.h>
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
using Options = ColumnParallelLinearOptions;

constexpr int64_t kIn = 5;
constexpr int64_t kOut = 12;

/// What a dense layer gives, on the whole tensors.
struct Dense {
  Tensor y, x_grad, weight_grad, bias_grad;
};

Tensor dense_weight() {
  return numbers({kOut, kIn}, 3);
}
Tensor dense_bias() {
  return numbers({kOut}, 4);
}

/// Gradients are those of sin(y) summed: no two elements alike.
Dense run_dense(const Tensor& whole_x, bool with_bias) {
  const Tensor x = leaf(whole_x);
  const Tensor weight = leaf(dense_weight());
  const Tensor bias = with_bias ? leaf(dense_bias()) : Tensor();
  const Tensor y = at::linear(
      x, weight, with_bias ? std::optional<Tensor>(bias) : std::nullopt);
  y.sin().sum().backward();
  return {y.detach(), x.grad(), weight.grad(),
          with_bias ? bias.grad() : Tensor()};
}

ColumnParallelLinear make_layer(Options options) {
  options.dtype(at::kDouble);
  ColumnParallelLinear layer(options);
  split_parameter(layer->weight, dense_weight());
  if (options.bias()) {
    split_parameter(layer->bias, dense_bias());
  }
  return layer;
}

void expect_parameter_grads(const ColumnParallelLinear& layer,
                            const Dense& want, const std::string& what) {
  const auto spec = get_tensor_parallel_attributes(layer->weight)->spec;
  expect_close(layer->weight.grad(), split(want.weight_grad, spec), 1e-10,
               what + ", weight");
  if (layer->bias.defined()) {
    expect_close(layer->bias.grad(), split(want.bias_grad, spec), 1e-10,
                 what + ", bias");
  }
}

const std::vector<std::vector<int64_t>> kInputShapes = {
    {kIn}, {3, kIn}, {2, 3, kIn}, {2, 1, 3, kIn}, {0, kIn}, {2, 0, kIn}};

class ColumnParallelLinearTest : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, ColumnParallelLinearTest,
                         ::testing::Values(1, 2, 3, 4));

TEST_P(ColumnParallelLinearTest, GatheredOutputAndGradientsMatchDense) {
  run_tensor_parallel(GetParam(), [&](const GroupPtr&) {
    for (const bool bias : {true, false}) {
      for (const auto& shape : kInputShapes) {
        const std::string what =
            "dims " + std::to_string(shape.size()) + (bias ? " bias" : "");
        const Dense want = run_dense(numbers(shape), bias);
        ColumnParallelLinear layer = make_layer(Options(kIn, kOut).bias(bias));
        const Tensor x = leaf(numbers(shape));
        const Tensor y = layer(x);
        expect_close(y, want.y, 1e-10, what);
        y.sin().sum().backward();
        expect_close(x.grad(), want.x_grad, 1e-10, what);
        expect_parameter_grads(layer, want, what);
      }
    }
  });
}

TEST_P(ColumnParallelLinearTest, OwnOutputAndGradientsMatchDense) {
  run_tensor_parallel(GetParam(), [&](const GroupPtr& group) {
    for (const auto& shape : kInputShapes) {
      const Dense want = run_dense(numbers(shape), true);
      ColumnParallelLinear layer =
          make_layer(Options(kIn, kOut).gather_output(false));
      const Tensor x = leaf(numbers(shape));
      const Tensor y = layer(x);
      expect_close(y, part(want.y, -1, group));
      y.sin().sum().backward();
      expect_close(x.grad(), want.x_grad);
      expect_parameter_grads(layer, want, "own output");
    }
  });
}

TEST_P(ColumnParallelLinearTest, SequenceParallelMatchesDense) {
  run_tensor_parallel(GetParam(), [&](const GroupPtr& group) {
    for (const int64_t dim : {0, 1, -2}) {
      const Tensor whole_x = numbers({12, 12, kIn});
      const Dense want = run_dense(whole_x, true);
      ColumnParallelLinear layer =
          make_layer(Options(kIn, kOut)
                         .gather_output(false)
                         .sequence_parallel_enabled(true)
                         .sequence_dimension(dim));
      const Tensor x = leaf(part(whole_x, dim, group));
      const Tensor y = layer(x);
      expect_close(y, part(want.y, -1, group));
      y.sin().sum().backward();
      expect_close(x.grad(), part(want.x_grad, dim, group));
      expect_parameter_grads(layer, want, "sequence parallel");
    }
  });
}

TEST_P(ColumnParallelLinearTest, SegmentsAreSplitEachByItself) {
  const int ranks = GetParam();
  run_tensor_parallel(ranks, [&](const GroupPtr& group) {
    const std::vector<int64_t> sizes = {24, 12, 12};
    const Tensor weight = numbers({48, kIn}, 3);
    const Tensor x = numbers({2, kIn});
    const Tensor want = at::linear(x, weight);
    for (const bool gather : {true, false}) {
      ColumnParallelLinear layer(Options(kIn, 48)
                                     .dtype(at::kDouble)
                                     .bias(false)
                                     .segments(sizes)
                                     .gather_output(gather));
      split_parameter(layer->weight, weight);
      const Tensor y = layer(x);
      if (gather) {
        expect_close(y, want);
        y.sin().sum().backward();
        const Tensor whole = leaf(weight);
        at::linear(x, whole).sin().sum().backward();
        const auto attributes = get_tensor_parallel_attributes(layer->weight);
        expect_close(layer->weight.grad(),
                     split(whole.grad(), attributes->spec));
      } else {
        const std::vector<Tensor> segments = want.split_with_sizes(sizes, -1);
        expect_close(y, at::cat({part(segments[0], -1, group),
                                 part(segments[1], -1, group),
                                 part(segments[2], -1, group)},
                                -1));
      }
    }
  });
}

TEST_P(ColumnParallelLinearTest, PadsAnOutputThatDoesNotDivide) {
  const int ranks = GetParam();
  run_tensor_parallel(ranks, [&](const GroupPtr&) {
    const int64_t out = 7;
    const Tensor weight = numbers({out, kIn}, 3);
    const Tensor bias = numbers({out}, 4);
    const Tensor whole = leaf(weight);
    const Tensor dense_x = leaf(numbers({2, kIn}));
    const Tensor want = at::linear(dense_x, whole, bias);
    want.cos().sum().backward();  // cos(0) is 1: padding would show
    for (const bool gather : {true, false}) {
      ColumnParallelLinear layer(
          Options(kIn, out).dtype(at::kDouble).pad(true).gather_output(gather));
      split_parameter(layer->weight, weight);
      split_parameter(layer->bias, bias);
      const Tensor x = leaf(numbers({2, kIn}));
      const Tensor y = layer(x);
      const auto spec = get_tensor_parallel_attributes(layer->weight)->spec;
      if (gather) {
        expect_close(y, want);
      } else {
        ShardSpec columns = spec;
        columns.dim = 1;
        expect_close(y, split(want.detach(), columns));
      }
      y.cos().sum().backward();
      expect_close(x.grad(), dense_x.grad());
      expect_close(layer->weight.grad(), split(whole.grad(), spec));
      EXPECT_EQ(layer->weight.size(0), (out + ranks - 1) / ranks);
      EXPECT_EQ(layer->bias.grad()
                    .narrow(0, spec.held_size(), spec.padding())
                    .count_nonzero()
                    .item<int64_t>(),
                0);
    }
  });
}

TEST_P(ColumnParallelLinearTest, SecondDerivativesAreRight) {
  run_tensor_parallel(GetParam(), [&](const GroupPtr& group) {
    for (const bool gather : {true, false}) {
      const int64_t own = kOut / group->size();
      const testing::RankFunction f = {
          [&](const std::vector<Tensor>& in) {
            return functional::column_parallel_linear(
                       in[0], in[1], in[2], {.gather_output = gather}, group)
                .sin();
          },
          gather ? Placement::kReplicated : Placement::kPerRank};
      const std::vector<testing::Placed> inputs = {
          {numbers({2, 2}), Placement::kReplicated},
          {numbers({own, 2}, group->rank()), Placement::kPerRank},
          {numbers({own}, group->rank()), Placement::kPerRank}};
      gradcheck(f, inputs, group);
      gradgradcheck(f, inputs, group);
    }
  });
}

TEST_P(ColumnParallelLinearTest, LowPrecisionMatchesDense) {
  run_tensor_parallel(GetParam(), [&](const GroupPtr& group) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
      const double tolerance = dtype == at::kFloat      ? 1e-5
                               : dtype == at::kBFloat16 ? 3e-2
                                                        : 4e-3;
      const Tensor want =
          at::linear(numbers({2, 3, kIn}), dense_weight(), dense_bias());
      ColumnParallelLinear layer(Options(kIn, kOut).dtype(dtype));
      split_parameter(layer->weight, dense_weight().to(dtype));
      split_parameter(layer->bias, dense_bias().to(dtype));
      const Tensor y = layer(numbers({2, 3, kIn}).to(dtype));
      expect_close(y, want.to(dtype), tolerance);
      y.sum().backward();
      EXPECT_EQ(layer->weight.grad().scalar_type(), dtype);
      expect_close(layer->bias.grad(),
                   at::full({kOut / group->size()}, 6, dtype), tolerance);
    }
  });
}

TEST_P(ColumnParallelLinearTest, AddsUpGradientsInTheDtypeAskedFor) {
  const int ranks = GetParam();
  run_tensor_parallel(ranks, [&](const GroupPtr&) {
    for (const bool sequence : {false, true}) {
      // 256 + 1 is 256 in bf16: lost if the sum over ranks is taken in it.
      Tensor weight = at::zeros({12, 1}, at::kBFloat16);
      weight[0][0] = 256;
      if (ranks > 1) {
        weight[11][0] = 1;
        weight[12 / ranks][0] = weight[12 / ranks][0].item<double>() + 1;
      }
      ColumnParallelLinear layer(Options(1, 12)
                                     .dtype(at::kBFloat16)
                                     .bias(false)
                                     .gather_output(false)
                                     .sequence_parallel_enabled(sequence)
                                     .reduce_dtype(at::kFloat));
      split_parameter(layer->weight, weight);
      const Tensor x = leaf(at::ones({1, 1}, at::kBFloat16));
      layer(x).sum().backward();
      EXPECT_EQ(x.grad().scalar_type(), at::kBFloat16);
      EXPECT_EQ(x.grad().item<double>(), ranks > 1 ? 258 : 256);
    }
  });
}

TEST_P(ColumnParallelLinearTest, TakesNonContiguousInputs) {
  run_tensor_parallel(GetParam(), [&](const GroupPtr&) {
    ColumnParallelLinear layer = make_layer(Options(kIn, kOut));
    for (const Tensor& x :
         {numbers({kIn, 3}).t(), numbers({kIn, 2, 3}).permute({2, 1, 0}),
          numbers({1, kIn}).expand({4, kIn})}) {
      expect_close(layer(x),
                   at::linear(x.contiguous(), dense_weight(), dense_bias()));
    }
  });
}

TEST_P(ColumnParallelLinearTest, SkipsTheBiasForItsCaller) {
  run_tensor_parallel(GetParam(), [&](const GroupPtr& group) {
    ColumnParallelLinear layer =
        make_layer(Options(kIn, kOut).gather_output(false).skip_bias_add(true));
    const Tensor x = numbers({2, kIn});
    expect_close(layer(x) + layer->bias,
                 part(at::linear(x, dense_weight(), dense_bias()), -1, group));
  });
}

TEST_P(ColumnParallelLinearTest, ParametersCarryTheirAttributes) {
  run_tensor_parallel(GetParam(), [&](const GroupPtr& group) {
    ColumnParallelLinear layer(Options(kIn, kOut));
    const ShardSpec spec =
        ShardSpec::even(0, kOut, group->rank(), group->size());
    for (const Tensor& parameter : layer->parameters()) {
      const auto attributes = get_tensor_parallel_attributes(parameter);
      ASSERT_TRUE(attributes);
      EXPECT_EQ(attributes->spec, spec);
      EXPECT_EQ(attributes->group, "tp");
    }
    EXPECT_EQ(layer->named_parameters().keys(),
              (std::vector<std::string>{"weight", "bias"}));
  });
}

TEST_P(ColumnParallelLinearTest, CloneDrawsNothingAndKeepsAttributes) {
  run_tensor_parallel(GetParam(), [&](const GroupPtr&) {
    ColumnParallelLinear layer(Options(kIn, kOut));
    layer->bias.set_requires_grad(false);
    const Tensor before = random_state().replicated;
    const auto copy =
        std::dynamic_pointer_cast<ColumnParallelLinearImpl>(layer->clone());
    expect_equal(random_state().replicated, before);
    ASSERT_NE(copy, nullptr);
    expect_equal(copy->weight, layer->weight);
    EXPECT_NE(copy->weight.data_ptr(), layer->weight.data_ptr());
    EXPECT_TRUE(copy->weight.is_same(copy->parameters()[0]));
    EXPECT_FALSE(copy->bias.requires_grad());
    EXPECT_EQ(get_tensor_parallel_attributes(copy->weight),
              get_tensor_parallel_attributes(layer->weight));

    const auto meta = std::dynamic_pointer_cast<ColumnParallelLinearImpl>(
        layer->clone(at::Device(at::kMeta)));
    EXPECT_TRUE(meta->weight.is_meta());
    EXPECT_EQ(get_tensor_parallel_attributes(meta->weight),
              get_tensor_parallel_attributes(layer->weight));

    ColumnParallelLinear bare(Options(kIn, kOut).bias(false));
    const auto bare_copy =
        std::dynamic_pointer_cast<ColumnParallelLinearImpl>(bare->clone());
    EXPECT_FALSE(bare_copy->bias.defined());
  });
}

TEST_P(ColumnParallelLinearTest, BuildsAndRunsOnMeta) {
  run_tensor_parallel(GetParam(), [&](const GroupPtr& group) {
    const Tensor before = random_state().replicated;
    ColumnParallelLinear layer(Options(kIn, kOut).device(at::kMeta));
    expect_equal(random_state().replicated, before);
    EXPECT_TRUE(layer->weight.is_meta());
    EXPECT_EQ(layer->weight.size(0), kOut / group->size());
    EXPECT_EQ(layer(at::empty({2, kIn}, at::kMeta)).sizes(),
              (at::IntArrayRef{2, kOut}));
  });
}

TEST(ColumnParallelLinear, RefusesWhatDoesNotFit) {
  run_ranks(1, [] {
    expect_throw<InvalidArgument>(
        [] { ColumnParallelLinear(kIn, kOut); },
        "ColumnParallelLinear: there is no tensor-parallel group yet; call "
        "parallel_state::initialize_model_parallel first");
  });
  run_tensor_parallel(2, [](const GroupPtr&) {
    expect_throw<InvalidArgument>(
        [] { ColumnParallelLinear(kIn, 7); },
        "ColumnParallelLinear: output_size 7 does not divide over 2 ranks; "
        "set pad to true, or make it 8");
    expect_throw<InvalidArgument>(
        [] { ColumnParallelLinear(kIn, -2); },
        "ColumnParallelLinear: output_size is -2; expected 0 or more");
    expect_throw<InvalidArgument>(
        [] {
          ColumnParallelLinear(Options(kIn, 8).segments({4, 2}));
        },
        "ColumnParallelLinear: segments [4, 2] add up to 6, not to "
        "output_size 8");
    expect_throw<InvalidArgument>(
        [] {
          ColumnParallelLinear(Options(kIn, 8).segments({5, 3}));
        },
        "ColumnParallelLinear: segment 5 of [5, 3] does not divide over 2 "
        "ranks; make it 6");
    expect_throw<InvalidArgument>(
        [] {
          ColumnParallelLinear(Options(kIn, 8).segments({4, 4}).pad(true));
        },
        "segments cannot be padded");
    ColumnParallelLinear layer(kIn, kOut);
    expect_throw<InvalidArgument>(
        [&] {
          layer(at::zeros({2, 3, 6}));
        },
        "ColumnParallelLinear: the input has shape [2, 3, 6]; expected "
        "[..., 5]");
    expect_throw<InvalidArgument>([&] { layer(at::zeros({})); },
                                  "the input has shape []");
    expect_throw<InvalidArgument>(
        [&] {
          layer(at::zeros({2, kIn}, at::kDouble));
        },
        "ColumnParallelLinear: the input is Double, the weight Float; convert "
        "one with to()");
    expect_throw<InvalidArgument>(
        [&] {
          layer(at::zeros({2, kIn}, at::kMeta));
        },
        "ColumnParallelLinear: the input is on meta, the weight on cpu");
    ColumnParallelLinear sequence(
        Options(kIn, kOut).sequence_parallel_enabled(true).sequence_dimension(
            1));
    expect_throw<InvalidArgument>(
        [&] {
          sequence(at::zeros({2, kIn}));
        },
        "ColumnParallelLinear: sequence_dimension 1 of a tensor of shape "
        "[2, 5] is not one of the dims in front of the last");
  });
}

TEST(ColumnParallelLinear, PrintsItself) {
  run_tensor_parallel(1, [](const GroupPtr&) {
    std::ostringstream out;
    out << ColumnParallelLinear(kIn, kOut);
    EXPECT_EQ(out.str(),
              "colonnade::parallel_layers::ColumnParallelLinear(input_size=5, "
              "output_size=12, bias=true, gather_output=true)");
  });
}

}  // namespace
}  // namespace colonnade::parallel_layers

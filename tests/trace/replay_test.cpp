// tests/trace/replay_test.cpp
// What replay does to be quick, and that the bits do not show it.
#include "colonnade/parallel_layers/row_parallel_linear.h"
#include "colonnade/trace/detail/direct_call.h"
#include "colonnade/trace/detail/program.h"
#include "colonnade/trace/detail/recorder.h"
#include "tests/testing/expect.h"
#include "tests/testing/tensor_parallel.h"

#include <torch/torch.h>

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

namespace colonnade::trace::detail {
namespace {

using at::Tensor;
using c10::IValue;
using colonnade::testing::expect_equal;
using colonnade::testing::numbers;
using colonnade::testing::run_tensor_parallel;
using parallel_layers::RowParallelLinear;
using parallel_layers::RowParallelLinearOptions;
using Kind = Operand::Kind;

using Inputs = std::vector<IValue>;

Tensor floats(at::IntArrayRef shape, int64_t salt = 0) {
  return numbers(shape, salt).to(at::kFloat);
}

/// Replay gives forward's outputs, bit for bit and with the same strides, and
/// leaves the inputs as they are; twice.
void expect_replays(const Forward& forward, const Inputs& inputs,
                    const std::vector<NamedTensor>& tensors = {}) {
  const c10::InferenceMode inference;
  const Recording recording = record(forward, inputs, tensors);
  Frame frame(
      std::make_shared<const Program>(recording.graph, at::Device(at::kCPU)),
      recording.weights);
  const std::vector<Tensor> wanted =
      forward(copy_inputs(inputs)).toTensorVector();
  const Inputs before = copy_inputs(inputs);
  std::vector<Tensor> first;  // must outlive the second pass
  for (int pass = 0; pass < 2; ++pass) {
    const std::vector<IValue> got = frame.run(inputs, {});
    ASSERT_EQ(got.size(), wanted.size());
    for (size_t i = 0; i < got.size(); ++i) {
      expect_equal(got[i].toTensor(), wanted[i], "output " + c10::str(i));
      EXPECT_EQ(got[i].toTensor().strides(), wanted[i].strides()) << i;
      first.push_back(got[i].toTensor());
    }
    for (size_t i = 0; i < inputs.size(); ++i) {
      expect_equal(inputs[i].toTensor(), before[i].toTensor(), "an input");
    }
  }
  for (size_t i = 0; i < wanted.size(); ++i) {
    expect_equal(first[i], wanted[i], "an output after another pass");
  }
}

TEST(Replay, NamesTheLayerOfACollective) {
  run_tensor_parallel(2, [](const GroupPtr& group) {
    const c10::InferenceMode inference;
    RowParallelLinear layer(
        RowParallelLinearOptions(4, 3).input_is_parallel(true));
    const Inputs inputs = {floats({2, 2})};
    const Recording recording = record(
        [&](const Inputs& in) { return IValue(layer(in[0].toTensor())); },
        inputs,
        {{"mlp.down.weight", layer->weight, true},
         {"mlp.down.bias", layer->bias, true}});
    Frame frame(
        std::make_shared<const Program>(recording.graph, at::Device(at::kCPU)),
        recording.weights);
    const uint64_t before = group->calls().begun();
    frame.run(inputs, {});
    EXPECT_EQ(group->calls().begun(), before + 1);
    EXPECT_EQ(group->calls().latest().call.site.text(), "layer mlp.down");
  });
}

TEST(Replay, OverwritesOnlyWhatNobodyHolds) {
  const Tensor weight = floats({3, 4}, 1);
  expect_replays(
      [&](const Inputs& in) {
        const Tensor x = in[0].toTensor();
        const Tensor y = in[1].toTensor();
        const Tensor held = x + 1;
        const Tensor view = held.view({4, 3});
        const Tensor given = at::relu(x * y);
        const Tensor of_weight = weight.t().add(0);
        return IValue(std::vector<Tensor>{
            held.mul(2) + view.view({3, 4}),       // a view is alive
            at::sigmoid(given), given.view({12}),  // an output
            weight.view({12}).neg(), weight.t().exp(), of_weight.mul(3).tanh(),
            x.view({12}).abs().sqrt(), x.mul(x).sub(y).div(weight).relu()});
      },
      {floats({3, 4}), floats({3, 4}, 2)}, {{"weight", weight, true}});
}

TEST(Replay, KeepsShapesDtypesAndStrides) {
  expect_replays(
      [](const Inputs& in) {
        const Tensor row = in[0].toTensor().add(0);    // [4]
        const Tensor x = in[1].toTensor();             // [3, 4]
        const Tensor whole = in[2].toTensor().add(1);  // [3, 4], int
        const Tensor image = in[3].toTensor().add(1);  // channels last
        const Tensor pixel = in[4].toTensor().add(1);  // [2, 3, 1, 1]
        const Tensor turned = (x + 1).t();             // [4, 3]
        return IValue(std::vector<Tensor>{
            row * x,                                  // grows
            (x + 2) * row,                            // does not
            whole.add(1).div(2), whole.mul(2) + 0.5,  // other dtypes
            image.mul(2).relu(), pixel.mul(2).relu(), turned.mul(2),
            (x * 2) + turned.t().mul(3), (x * 3).masked_fill(x > 0, 7),
            x.to(at::kBFloat16).mul(3).add(x), (x * 1).select(0, 1).exp(),
            x.sum().add(1).mul(2), at::zeros({0, 4}).add(1).relu()});
      },
      {floats({4}), floats({3, 4}), at::arange(12).view({3, 4}),
       floats({2, 3, 4, 5}).contiguous(at::MemoryFormat::ChannelsLast),
       floats({2, 3, 1, 1}).as_strided({2, 3, 1, 1}, {3, 1, 3, 3})});
}

TEST(Replay, CallsEveryLightOp) {
  expect_replays(
      [](const Inputs& in) {
        const Tensor x = in[0].toTensor();
        const Tensor y = x.abs().add(0.5, 2);
        std::vector<Tensor> outputs = {x.sub(y),
                                       x.sub(1, 3),
                                       x.mul(2),
                                       x / y,
                                       x / 3,
                                       y.pow(1.5),
                                       x.clamp(-0.5, 0.5),
                                       x.clamp(std::nullopt, 0),
                                       at::leaky_relu(x, 0.1),
                                       at::hardtanh(x),
                                       at::gelu(x),
                                       at::gelu(x, "tanh"),
                                       at::silu(x),
                                       at::sigmoid(x),
                                       x.tanh(),
                                       x.neg(),
                                       x.exp(),
                                       y.log(),
                                       y.sqrt(),
                                       y.rsqrt(),
                                       x.sin(),
                                       x.cos(),
                                       x.permute({1, 0}),
                                       x.t(),
                                       x.select(1, -1),
                                       x.slice(1, 1, 3),
                                       x.slice(0, std::nullopt, -1),
                                       x.unsqueeze(0).squeeze(0),
                                       x.unsqueeze(1).expand({-1, 2, -1}),
                                       x.view({-1}),
                                       x.detach()};
        const Tensor z = x.add(0);
        z.add_(y).sub_(1).mul_(2).div_(y).neg_().clamp_(-1, 1).tanh_().exp_();
        outputs.push_back(z);
        return IValue(outputs);
      },
      {floats({5, 4})});
}

Operand value_operand(int index, Kind kind = Kind::kValue) {
  Operand operand;
  operand.kind = kind;
  operand.index = index;
  return operand;
}

TEST(Replay, SeesWhoHoldsATensor) {
  const std::vector<Operand> arguments = {value_operand(0), value_operand(1)};
  const auto may = [&](Tensor self, const Tensor& other) {
    std::vector<IValue> values = {std::move(self), other};
    return may_overwrite(arguments, {values, {}, {}});
  };
  EXPECT_TRUE(may(at::ones({2, 3}), at::ones({2, 3})));
  EXPECT_TRUE(may(at::ones({2, 3}), at::ones({3})));
  EXPECT_TRUE(may(at::ones({2, 3}), at::ones({2, 1})));
  EXPECT_TRUE(may(at::ones({2, 3}), at::ones({})));
  const Tensor held = at::ones({2, 3});
  EXPECT_FALSE(may(held, at::ones({3}))) << "the tensor is held";
  EXPECT_FALSE(may(held.view({3, 2}), at::ones({2}))) << "its memory is";
  EXPECT_FALSE(may(at::ones({3, 2}).t(), at::ones({3}))) << "strides";
  EXPECT_FALSE(may(at::ones({2, 3}), at::ones({3, 2}).t())) << "strides";
  EXPECT_FALSE(may(at::ones({1, 3}), at::ones({2, 3}))) << "it grows";
  EXPECT_FALSE(may(at::ones({3}), at::ones({1, 3}))) << "it gets a dim";
}

TEST(Replay, LetsWeightsGoThatOnlyThePrologueReads) {
  const c10::InferenceMode inference;
  const Tensor weight = floats({3, 4});
  Recording recording =
      record([&](const Inputs& in) { return in[0].toTensor() + weight.exp(); },
             {floats({3, 4})}, {{"weight", weight, true}});
  recording.graph.prologue = {recording.graph.nodes[0]};
  recording.graph.nodes.erase(recording.graph.nodes.begin());
  std::vector<Tensor> own = {weight.clone()};
  Frame frame(
      std::make_shared<const Program>(recording.graph, at::Device(at::kCPU)),
      own);
  EXPECT_EQ(own[0].use_count(), 1U);
  const Tensor x = floats({3, 4}, 5);
  for (int pass = 0; pass < 2; ++pass) {
    expect_equal(frame.run({x}, {})[0].toTensor(), x + weight.exp());
  }
}

}  // namespace
}  // namespace colonnade::trace::detail

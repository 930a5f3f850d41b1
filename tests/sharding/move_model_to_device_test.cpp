// tests/sharding/move_model_to_device_test.cpp
#include "colonnade/sharding/move_model_to_device.h"

#include "colonnade/parallel_layers/sharding.h"
#include "colonnade/sharding/attributes.h"

#include <ATen/ATen.h>
#include <torch/nn/modules/batchnorm.h>
#include <torch/nn/modules/linear.h>
#include <torch/nn/modules/rnn.h>
#include <torch/optim/adamw.h>
#include <torch/optim/sgd.h>

#include <gtest/gtest.h>

#include <tuple>
#include <vector>

namespace colonnade {
namespace {

using parallel_state::move_model_to_device;

/// A model with a tie, a buffer, a frozen parameter and a sharded one.
struct Net : torch::nn::Module {
  torch::nn::Linear in{4, 6}, out{6, 4}, again{nullptr};
  torch::nn::BatchNorm1d norm{6};
  Net() {
    register_module("in", in);
    register_module("norm", norm);
    register_module("out", out);
    again = register_module("again", out);
    in->bias.requires_grad_(false);
    set_tensor_parallel_attributes(in->weight, attributes());
  }
  static TensorParallelAttributes attributes() {
    return {ShardSpec::even(0, 12, 1, 2), "tp"};
  }
  at::Tensor forward(const at::Tensor& x) {
    return again(norm(in(out(norm(in(x))))));
  }
};

void fill(Net& net, const Net& from) {
  at::NoGradGuard no_grad;
  const auto copy = [](const auto& to, const auto& values) {
    for (size_t i = 0; i < to.size(); ++i) {
      to[i].copy_(values[i]);
    }
  };
  copy(net.parameters(), from.parameters());
  copy(net.buffers(), from.buffers());
}

at::Tensor input() {
  return at::linspace(-1, 1, 20).view({5, 4});
}

void expect_equal_after_step(Net& got, Net& want) {
  torch::optim::AdamW got_optimizer(got.parameters(), 1e-2);
  torch::optim::AdamW want_optimizer(want.parameters(), 1e-2);
  for (int step = 0; step < 3; ++step) {
    got_optimizer.zero_grad();
    want_optimizer.zero_grad();
    const at::Tensor got_y = got.forward(input());
    const at::Tensor want_y = want.forward(input());
    EXPECT_TRUE(at::equal(got_y, want_y)) << step;
    got_y.pow(2).sum().backward();
    want_y.pow(2).sum().backward();
    for (size_t i = 0; i < want.parameters().size(); ++i) {
      const at::Tensor got_grad = got.parameters()[i].grad();
      const at::Tensor want_grad = want.parameters()[i].grad();
      ASSERT_EQ(got_grad.defined(), want_grad.defined()) << i;
      if (want_grad.defined()) {
        EXPECT_TRUE(at::equal(got_grad, want_grad)) << i;
      }
    }
    got_optimizer.step();
    want_optimizer.step();
  }
}

/// All tensors of a model, which keep their identity.
std::vector<const void*> identities(const Net& net) {
  std::vector<const void*> all;
  for (const auto& tensors : {net.parameters(), net.buffers()}) {
    for (const at::Tensor& tensor : tensors) {
      all.push_back(tensor.unsafeGetTensorImpl());
    }
  }
  return all;
}

TEST(MoveModelToDevice, FromMetaTheModelTrainsAsIfMadeThere) {
  Net net, want;
  const auto before = identities(net);
  move_model_to_device(net, at::kMeta);
  // Keeps gradient accumulators that were made on meta alive.
  const at::Tensor on_meta = net.out(net.in(input().to(at::kMeta)));
  for (const at::Tensor& parameter : net.parameters()) {
    EXPECT_TRUE(parameter.is_meta());
  }

  move_model_to_device(net, at::kCPU);
  EXPECT_EQ(identities(net), before);
  for (const at::Tensor& parameter : net.parameters()) {
    EXPECT_TRUE(parameter.is_cpu());
    EXPECT_TRUE(parameter.is_leaf());
    EXPECT_NE(parameter.data_ptr(), nullptr);
    EXPECT_TRUE(parameter.key_set() == at::empty({1}).key_set());
  }
  EXPECT_TRUE(net.norm->running_mean.is_cpu());
  EXPECT_TRUE(net.norm->num_batches_tracked.is_cpu());
  EXPECT_TRUE(net.in->weight.requires_grad());
  EXPECT_FALSE(net.in->bias.requires_grad());
  EXPECT_TRUE(net.again->weight.is_same(net.out->weight));
  EXPECT_EQ(get_tensor_parallel_attributes(net.in->weight), Net::attributes());

  fill(net, want);
  expect_equal_after_step(net, want);
}

TEST(MoveModelToDevice, AnAccumulatorOfMetaIsNotUsedAgain) {
  torch::nn::Linear linear(3, 2);
  move_model_to_device(*linear, at::kMeta);
  const at::Tensor y = linear(at::zeros({1, 3}, at::kMeta));
  y.sum().backward();
  ASSERT_TRUE(linear->weight.grad().is_meta());
  move_model_to_device(*linear, at::kCPU);
  EXPECT_FALSE(linear->weight.grad().defined());
  {
    at::NoGradGuard no_grad;
    linear->weight.fill_(2);
  }
  linear(at::ones({1, 3})).sum().backward();
  EXPECT_TRUE(at::equal(linear->weight.grad(), at::ones({2, 3})));
}

TEST(MoveModelToDevice, HooksStay) {
  torch::nn::Linear linear(3, 2);
  int calls = 0;
  linear->weight.register_hook([&](const at::Tensor& gradient) {
    ++calls;
    return gradient * 3;
  });
  move_model_to_device(*linear, at::kMeta);
  move_model_to_device(*linear, at::kCPU);
  linear(at::ones({1, 3})).sum().backward();
  EXPECT_EQ(calls, 1);
  EXPECT_TRUE(at::equal(linear->weight.grad(), at::full({2, 3}, 3.f)));
}

TEST(MoveModelToDevice, GradientsMoveAndKeepTheirIdentity) {
  Net net;
  net.forward(input()).sum().backward();
  const at::Tensor gradient = net.in->weight.grad();
  move_model_to_device(net, at::kMeta);
  EXPECT_TRUE(gradient.is_meta());
  EXPECT_TRUE(net.in->weight.grad().is_same(gradient));
}

TEST(MoveModelToDevice, AnOptimizerMadeBeforeStillHasTheParameters) {
  torch::nn::Linear linear(3, 2);
  move_model_to_device(*linear, at::kMeta);
  torch::optim::SGD optimizer(linear->parameters(), 0.5);
  move_model_to_device(*linear, at::kCPU);
  {
    at::NoGradGuard no_grad;
    linear->weight.fill_(1);
  }
  linear(at::ones({1, 3})).sum().backward();
  optimizer.step();
  EXPECT_TRUE(at::equal(linear->weight, at::full({2, 3}, 0.5f)));
}

TEST(MoveModelToDevice, WhereItIsAlreadyNothingChanges) {
  Net net;
  net.forward(input()).sum().backward();
  const void* data = net.in->weight.data_ptr();
  const at::Tensor gradient = net.in->weight.grad();
  move_model_to_device(net, at::kCPU);
  EXPECT_EQ(net.in->weight.data_ptr(), data);
  EXPECT_TRUE(net.in->weight.grad().is_same(gradient));
  EXPECT_TRUE(gradient.is_cpu());
}

TEST(MoveModelToDevice, TypesAndStridesStay) {
  struct Strided : torch::nn::Module {
    at::Tensor weight =
        register_parameter("weight", at::zeros({2, 3, 4, 5}, at::kBFloat16)
                                         .to(at::MemoryFormat::ChannelsLast));
  } model;
  move_model_to_device(model, at::kMeta);
  move_model_to_device(model, at::kCPU);
  EXPECT_EQ(model.weight.scalar_type(), at::kBFloat16);
  EXPECT_TRUE(model.weight.is_contiguous(at::MemoryFormat::ChannelsLast));
}

TEST(MoveModelToDevice, ModulesWithAToOfTheirOwnGetToRunIt) {
  torch::nn::LSTM lstm(torch::nn::LSTMOptions(3, 4));
  move_model_to_device(*lstm, at::kMeta);
  move_model_to_device(*lstm, at::kCPU);
  at::NoGradGuard no_grad;
  for (const at::Tensor& parameter : lstm->parameters()) {
    parameter.zero_();
  }
  const at::Tensor y = std::get<0>(lstm(at::ones({2, 1, 3})));
  EXPECT_TRUE(at::equal(y, at::zeros({2, 1, 4})));
}

TEST(MoveModelToDevice, IsPartOfTheLayersNamespaceToo) {
  torch::nn::Linear linear(3, 2);
  parallel_layers::move_model_to_device(*linear, at::kMeta);
  EXPECT_TRUE(linear->weight.is_meta());
}

}  // namespace
}  // namespace colonnade

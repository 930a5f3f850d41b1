// tests/checkpoint/optimizer_state_test.cpp
#include "colonnade/checkpoint/state_dict.h"
#include "colonnade/core/error.h"
#include "tests/testing/error_of.h"

#include <torch/torch.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace colonnade {
namespace {

using testing::HasSubstr;
using torch::optim::OptimizerParamGroup;

struct Net : torch::nn::Module {
  Net() {
    first = register_module("first", torch::nn::Linear(3, 4));
    last = register_module("last", torch::nn::Linear(4, 2));
    unused = register_parameter("unused", torch::ones({2}));
  }
  at::Tensor loss(int64_t step) {
    const at::Tensor x =
        torch::arange(6, torch::kFloat).reshape({2, 3}).sin() * (step + 1);
    return last(torch::tanh(first(x))).square().mean();
  }
  torch::nn::Linear first = nullptr;
  torch::nn::Linear last = nullptr;
  at::Tensor unused;
};

void train(Net& net, torch::optim::Optimizer& optimizer, int begin, int end) {
  for (int step = begin; step < end; ++step) {
    optimizer.zero_grad();
    net.loss(step).backward();
    optimizer.step();
  }
}

/// Two groups, the second with options of its own.
template <typename Options>
std::vector<OptimizerParamGroup> groups(Net& net, const Options& second) {
  std::vector<OptimizerParamGroup> result;
  result.emplace_back(net.first->parameters());
  std::vector<at::Tensor> rest = net.last->parameters();
  rest.push_back(net.unused);
  result.emplace_back(rest, std::make_unique<Options>(second));
  return result;
}

using Make =
    std::function<std::unique_ptr<torch::optim::Optimizer>(Net&, double lr)>;

std::unique_ptr<torch::optim::Optimizer> make_sgd(Net& net, double lr) {
  using torch::optim::SGDOptions;
  return std::make_unique<torch::optim::SGD>(
      groups(net, SGDOptions(lr / 2).momentum(0.5).nesterov(true)),
      SGDOptions(lr).momentum(0.9).weight_decay(0.1));
}

std::unique_ptr<torch::optim::Optimizer> make_adam(Net& net, double lr) {
  using torch::optim::AdamOptions;
  return std::make_unique<torch::optim::Adam>(
      groups(net, AdamOptions(lr / 2).amsgrad(true)),
      AdamOptions(lr).betas({0.8, 0.9}));
}

std::unique_ptr<torch::optim::Optimizer> make_adamw(Net& net, double lr) {
  using torch::optim::AdamWOptions;
  return std::make_unique<torch::optim::AdamW>(
      groups(net, AdamWOptions(lr / 2).amsgrad(true)),
      AdamWOptions(lr).weight_decay(0.3));
}

TEST(OptimizerState, TrainingResumesBitEqual) {
  for (const Make& make : {Make(make_sgd), Make(make_adam), Make(make_adamw)}) {
    Net net;
    const auto optimizer = make(net, 0.1);
    train(net, *optimizer, 0, 3);
    const StateDict weights = state_dict(net);
    const StateDict state = state_dict(*optimizer, net);
    EXPECT_EQ(state.at("param_groups").to_list().items.size(), 2);
    EXPECT_FALSE(state.at("state").to_dict().contains("unused"));

    Net resumed;
    const auto other = make(resumed, 99.0);  // the state has the options
    load_state_dict(resumed, weights);
    load_state_dict(*other, resumed, state);
    // What was loaded is a copy: training one leaves the other alone.
    train(net, *optimizer, 3, 6);
    train(resumed, *other, 3, 6);
    for (const auto& item : net.named_parameters()) {
      EXPECT_TRUE(
          torch::equal(resumed.named_parameters()[item.key()], item.value()))
          << item.key();
    }
  }
}

TEST(OptimizerState, TakesTheAttributesOfItsParameters) {
  Net net;
  const TensorParallelAttributes attributes{ShardSpec::even(0, 8, 1, 2), "tp"};
  set_tensor_parallel_attributes(net.first->weight, attributes);
  torch::optim::AdamW optimizer(net.parameters(), 0.1);
  train(net, optimizer, 0, 1);
  const StateDict state = state_dict(optimizer, net);
  const StateDict& entry =
      state.at("state").to_dict().at("first.weight").to_dict();
  EXPECT_EQ(entry.at("exp_avg").to_state_tensor().attributes, attributes);
  EXPECT_EQ(entry.at("step").to_int(), 1);
  EXPECT_FALSE(state.at("state")
                   .to_dict()
                   .at("first.bias")
                   .to_dict()
                   .at("exp_avg")
                   .to_state_tensor()
                   .attributes.has_value());
}

TEST(OptimizerState, NamesWhatDoesNotFit) {
  Net net;
  Net stranger;
  torch::optim::AdamW optimizer(net.parameters(), 0.1);
  train(net, optimizer, 0, 1);
  const StateDict good = state_dict(optimizer, net);
  EXPECT_EQ(
      error_of<InvalidArgument>([&] { state_dict(optimizer, stranger); }),
      "state_dict: parameter 0 of the optimizer's group 0, of shape [2], is "
      "not one of the module's");
  torch::optim::RMSprop other(net.parameters(), 0.1);
  EXPECT_EQ(error_of<InvalidArgument>([&] { state_dict(other, net); }),
            "state_dict: the optimizer is none of SGD, Adam and AdamW");

  const auto refused = [&](const StateDict& state) {
    return error_of<InvalidArgument>(
        [&] { load_state_dict(optimizer, net, state); });
  };
  StateDict bad = good;
  bad["state"]["first.weight"]["exp_avg"] = torch::ones({1});
  EXPECT_EQ(refused(bad),
            "load_state_dict: state.first.weight.exp_avg: has shape [1], the "
            "parameter [4, 3]");
  bad = good;
  bad["state"]["first.weight"].to_dict().erase("step");
  EXPECT_EQ(refused(bad),
            "load_state_dict: state.first.weight.step: is missing");
  bad = good;
  bad["state"]["none"] = StateDict();
  EXPECT_EQ(refused(bad),
            "load_state_dict: state.none: is no parameter of the optimizer");
  bad = good;
  bad["param_groups"] = StateList();
  EXPECT_EQ(refused(bad),
            "load_state_dict: param_groups: are 0, but 1 in the optimizer");
  torch::optim::SGD sgd(net.parameters(), 0.1);
  EXPECT_THAT(refused(state_dict(sgd, net)),
              HasSubstr("load_state_dict: param_groups.0.betas: is missing"));

  // None of these changed anything.
  const StateDict after = state_dict(optimizer, net);
  EXPECT_TRUE(torch::equal(after.at("state")
                               .to_dict()
                               .at("first.weight")
                               .to_dict()
                               .at("exp_avg")
                               .to_tensor(),
                           good.at("state")
                               .to_dict()
                               .at("first.weight")
                               .to_dict()
                               .at("exp_avg")
                               .to_tensor()));
}

}  // namespace
}  // namespace colonnade

// tests/checkpoint/state_dict_test.cpp
#include "colonnade/checkpoint/state_dict.h"

#include "colonnade/core/error.h"
#include "tests/testing/error_of.h"

#include <torch/torch.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace colonnade {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> keys(const StateDict& dict) {
  std::vector<std::string> result;
  for (const auto& entry : dict) {
    result.push_back(to_string(entry.first));
  }
  return result;
}

TEST(StateDict, KeepsOrderAndTellsKeysApart) {
  StateDict dict;
  dict["b"] = 1;
  dict["a"] = 2;
  dict[int64_t{5}] = 3;
  dict["b"] = 4;
  EXPECT_THAT(keys(dict), ElementsAre("b", "a", "5"));
  EXPECT_EQ(dict.at("b").to_int(), 4);
  EXPECT_FALSE(dict.contains("5"));
  EXPECT_TRUE(dict.contains(int64_t{5}));
  dict.erase("a");
  EXPECT_THAT(keys(dict), ElementsAre("b", "5"));
  EXPECT_EQ(error_of<InvalidArgument>([&] { dict.at("c"); }),
            "StateDict: there is no \"c\"; the keys are: b, 5");
}

TEST(StateDict, NothingBecomesADict) {
  StateDict dict;
  dict["a"]["b"]["c"] = true;
  EXPECT_TRUE(dict.at("a").to_dict().at("b").to_dict().at("c").to_bool());
  EXPECT_EQ(error_of<InvalidArgument>([&] { dict["a"]["b"]["c"]["d"]; }),
            "StateValue: is a bool, not a dict");
}

TEST(StateValue, GivesWhatItIs) {
  EXPECT_TRUE(StateValue().is_none());
  EXPECT_EQ(StateValue(3).to_double(), 3.0);
  EXPECT_EQ(StateValue(0.5F).to_double(), 0.5);
  EXPECT_EQ(StateValue("text").to_string(), "text");
  EXPECT_EQ(error_of<InvalidArgument>([] { StateValue(0.5).to_int(); }),
            "StateValue: is a number, not an integer");
  EXPECT_EQ(error_of<InvalidArgument>([] { StateValue().to_tensor(); }),
            "StateValue: is nothing, not a tensor");
}

TEST(StateValue, TakesTheAttributesOfATensorAlong) {
  const at::Tensor tensor = torch::ones({2});
  const TensorParallelAttributes attributes{ShardSpec::even(0, 4, 1, 2), "tp"};
  set_tensor_parallel_attributes(tensor, attributes);
  EXPECT_EQ(StateValue(tensor).to_state_tensor().attributes, attributes);
  EXPECT_FALSE(
      StateValue(tensor.clone()).to_state_tensor().attributes.has_value());
}

/// A linear layer twice, tied, and a buffer.
struct Tied : torch::nn::Module {
  Tied() {
    first = register_module("first", torch::nn::Linear(2, 3));
    second = register_module("second", torch::nn::Linear(2, 3));
    second->weight = second->register_parameter("other", first->weight);
    count = register_buffer("count", torch::zeros({}, torch::kLong));
  }
  torch::nn::Linear first = nullptr;
  torch::nn::Linear second = nullptr;
  at::Tensor count;
};

TEST(ModuleState, HasParametersAndBuffersAndSharesTheirMemory) {
  Tied module;
  set_tensor_parallel_attributes(module.first->weight,
                                 {ShardSpec::even(0, 6, 0, 2), "tp"});
  const StateDict state = state_dict(module);
  EXPECT_THAT(keys(state),
              ElementsAre("first.weight", "first.bias", "second.weight",
                          "second.bias", "second.other", "count"));
  const StateTensor& weight = state.at("first.weight").to_state_tensor();
  EXPECT_TRUE(weight.tensor.is_alias_of(module.first->weight));
  EXPECT_FALSE(weight.tensor.requires_grad());
  EXPECT_EQ(weight.attributes->spec, ShardSpec::even(0, 6, 0, 2));
  EXPECT_EQ(state.at("second.other").to_tensor().data_ptr(),
            weight.tensor.data_ptr());
}

TEST(ModuleState, LoadsBackOrListsAllThatDoesNotFit) {
  Tied from;
  from.count.fill_(7);
  Tied to;
  load_state_dict(to, state_dict(from));
  EXPECT_TRUE(torch::equal(to.first->weight, from.first->weight));
  EXPECT_EQ(to.count.item<int64_t>(), 7);

  StateDict state = state_dict(Tied());
  state.erase("first.bias");
  state["second.bias"] = 1;
  state["count"] = torch::zeros({2}, torch::kLong);
  state["new"] = torch::zeros({1});
  const std::string error =
      error_of<InvalidArgument>([&] { load_state_dict(to, state); });
  EXPECT_THAT(error, HasSubstr("load_state_dict: the state dict does not fit "
                               "the model:"));
  EXPECT_THAT(error,
              HasSubstr("\n  missing: first.bias, F32 [3] in the model"));
  EXPECT_THAT(error, HasSubstr("\n  unexpected: new, F32 [1] to load"));
  EXPECT_THAT(error, HasSubstr("\n  mismatched: second.bias, F32 [3] in the "
                               "model, but no tensor to load"));
  EXPECT_THAT(error, HasSubstr("\n  mismatched: count, I64 [] in the model, "
                               "but I64 [2] to load"));
  EXPECT_TRUE(torch::equal(to.first->weight, from.first->weight));

  set_tensor_parallel_attributes(to.first->bias,
                                 {ShardSpec::even(0, 6, 0, 2), "tp"});
  StateDict shard = state_dict(from);
  shard["first.bias"] =
      StateTensor{torch::ones({3}),
                  TensorParallelAttributes{ShardSpec::even(0, 6, 1, 2), "tp"}};
  EXPECT_THAT(
      error_of<InvalidArgument>([&] { load_state_dict(to, shard); }),
      HasSubstr("\n  mismatched: first.bias, F32 [3] (dim 0, [0, 3) of 6) in "
                "the model, but F32 [3] (dim 0, [3, 6) of 6) to load"));
}

}  // namespace
}  // namespace colonnade

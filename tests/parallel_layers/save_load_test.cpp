// tests/parallel_layers/save_load_test.cpp
#include "colonnade/parallel_layers/save_load.h"

#include "colonnade/core/error.h"
#include "colonnade/launch/launch.h"
#include "tests/parallel_layers/hand_model.h"
#include "tests/parallel_layers/tensor_parallel_ranks.h"
#include "tests/testing/error_of.h"
#include "tests/testing/temporary_folder.h"

#include <torch/torch.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <tuple>

namespace colonnade {
namespace {

namespace pl = parallel_layers;
namespace ps = parallel_state;
using testing::HasSubstr;
using testing::Not;

void save_model(const HandModel& model, const std::filesystem::path& folder) {
  StateDict state;
  state["model"] = state_dict(model);
  pl::save(state, folder);
}

class ReshardTest : public testing::TestWithParam<std::tuple<int, int>> {};

TEST_P(ReshardTest, WeightsAreEqualAtTheOtherDegree) {
  const auto [from, to] = GetParam();
  const TemporaryFolder folder;
  run_tensor_parallel(from, [&] {
    const HandModel model(1);
    StateDict state;
    state["model"] = state_dict(model);
    state["step"] = 10;
    pl::save(state, folder.path());
  });
  run_tensor_parallel(to, [&] {
    HandModel model(2);
    const StateDict rest = pl::load(folder.path(), model);
    expect_weights(model, HandModel(1));
    EXPECT_EQ(rest.size(), 1);
    EXPECT_EQ(rest.at("step").to_int(), 10);
  });
}

INSTANTIATE_TEST_SUITE_P(Degrees, ReshardTest,
                         testing::Combine(testing::Range(1, 5),
                                          testing::Range(1, 5)));

TEST(SaveLoad, OptimizerStateTakesTheLayoutOfItsParameters) {
  const TemporaryFolder folder;
  const auto first = [&] {
    HandModel model(1);
    torch::optim::AdamW optimizer(model.parameters(), 0.01);
    train(model, optimizer, 0, 3);
    StateDict state;
    state["model"] = state_dict(model);
    state["optimizer"] = state_dict(optimizer, model);
    pl::save(state, folder.path());
  };
  const auto second = [&](bool bit_equal) {
    HandModel resumed(2);
    torch::optim::AdamW optimizer(resumed.parameters(), 0.5);
    StateDict rest = pl::load(folder.path(), resumed);
    load_state_dict(optimizer, resumed, rest["optimizer"]);
    train(resumed, optimizer, 3, 6);

    HandModel straight(1);
    torch::optim::AdamW other(straight.parameters(), 0.01);
    train(straight, other, 0, 6);
    for (const auto& item : straight.named_parameters()) {
      const at::Tensor got = resumed.named_parameters()[item.key()];
      if (bit_equal) {
        EXPECT_TRUE(same_bits(got, item.value())) << item.key();
      } else {
        EXPECT_TRUE(torch::allclose(got, item.value(), 1e-5, 1e-5,
                                    /*equal_nan=*/true))
            << item.key();
      }
    }
  };
  for (const int from : {1, 2, 4}) {
    run_tensor_parallel(from, first);
    for (const int to : {1, 2, 3, 4}) {
      run_tensor_parallel(to, [&] { second(from == to); });
    }
  }
}

TEST(SaveLoad, KeepsEveryPlainValue) {
  const TemporaryFolder folder;
  run_tensor_parallel(2, [&] {
    constexpr double kInf = std::numeric_limits<double>::infinity();
    StateDict inner;
    inner["none"] = StateValue();
    inner[int64_t{7}] = "seven";
    inner["empty"] = StateDict();
    StateDict state;
    state["list"] = StateList{{true, 2, StateList{{"x"}, true}}, false};
    state["empty list"] = StateList{};
    state["least"] = std::numeric_limits<int64_t>::min();
    state["numbers"] =
        StateList{{0.1, -0.0, kInf, -kInf, std::nan(""), 1.0, 5e-324}, false};
    state["text"] = "\"quoted\" \n \xc3\xa9";
    state["inner"] = inner;
    pl::save(state, folder.path());

    const StateDict got = pl::load(folder.path());
    ASSERT_EQ(got.size(), 6);
    EXPECT_EQ(to_string(got.begin()->first), "list");  // order is kept
    const auto& list = got.at("list").to_list();
    EXPECT_FALSE(list.is_tuple);
    EXPECT_TRUE(list.items[0].to_bool());
    EXPECT_EQ(list.items[1].to_int(), 2);
    EXPECT_TRUE(list.items[2].to_list().is_tuple);
    EXPECT_EQ(list.items[2].to_list().items[0].to_string(), "x");
    EXPECT_TRUE(got.at("empty list").to_list().items.empty());
    EXPECT_EQ(got.at("least").to_int(), std::numeric_limits<int64_t>::min());
    const auto& numbers = got.at("numbers").to_list().items;
    EXPECT_EQ(numbers[0].to_double(), 0.1);
    EXPECT_TRUE(std::signbit(numbers[1].to_double()));
    EXPECT_EQ(numbers[2].to_double(), kInf);
    EXPECT_EQ(numbers[3].to_double(), -kInf);
    EXPECT_TRUE(std::isnan(numbers[4].to_double()));
    EXPECT_TRUE(numbers[5].is<double>());
    EXPECT_EQ(numbers[6].to_double(), 5e-324);
    EXPECT_EQ(got.at("text").to_string(), "\"quoted\" \n \xc3\xa9");
    const StateDict& got_inner = got.at("inner").to_dict();
    EXPECT_TRUE(got_inner.at("none").is_none());
    EXPECT_EQ(got_inner.at(int64_t{7}).to_string(), "seven");
    EXPECT_TRUE(got_inner.at("empty").to_dict().empty());
  });
}

TEST(SaveLoad, KeepsEveryDtypeAndTensorsThatAreNotContiguous) {
  const TemporaryFolder folder;
  run_tensor_parallel(2, [&] {
    const auto dtypes = {
        torch::kBool,   torch::kByte,          torch::kChar,
        torch::kShort,  torch::kInt,           torch::kLong,
        torch::kHalf,   torch::kBFloat16,      torch::kFloat,
        torch::kDouble, torch::kUInt16,        torch::kUInt32,
        torch::kUInt64, torch::kFloat8_e4m3fn, torch::kFloat8_e5m2};
    StateDict state;
    for (const auto dtype : dtypes) {
      state[std::string(c10::toString(dtype))] =
          torch::arange(5, torch::kFloat).to(dtype);
    }
    state["transposed"] = distinct({3, 4}, 0).t();
    state["every other"] = distinct({8}, 0).slice(0, 0, 8, 2);
    state["expanded"] = torch::ones({1}).expand({3});
    state["bits"] = torch::tensor({0x7fc00001, 0x7f800001, -1}, torch::kInt)
                        .view(torch::kFloat);
    pl::save(state, folder.path());
    const StateDict got = pl::load(folder.path());
    for (const auto& [key, value] : state) {
      EXPECT_TRUE(same_bits(got.at(key).to_tensor(), value.to_tensor()))
          << to_string(key);
    }
  });
}

TEST(SaveLoad, WorksWithoutRanks) {
  const TemporaryFolder folder;
  save_model(HandModel(1), folder.path() / "new" / "deeper");
  HandModel model(2);
  EXPECT_TRUE(pl::load(folder.path() / "new" / "deeper", model).empty());
  expect_weights(model, HandModel(1));
}

TEST(SaveLoad, NeedsParallelStateInAWorldOfSeveral) {
  const TemporaryFolder folder;
  run_ranks(2, [&] {
    EXPECT_THAT(
        error_of<InvalidArgument>([&] { pl::save({}, folder.path()); }),
        HasSubstr("save: this world has 2 ranks and no parallel state; call "
                  "initialize_model_parallel first"));
  });
}

TEST(SaveLoad, DataParallelReplicasReadWhatTheFirstWrote) {
  const TemporaryFolder folder;
  const auto body = [&] {
    save_model(HandModel(1 + 10 * ps::get_data_parallel_rank()), folder.path());
    HandModel model(2);
    pl::load(folder.path(), model);
    expect_weights(model, HandModel(1));
  };
  run_tensor_parallel(2, body, /*dp=*/2);
  EXPECT_EQ(folder.files().size(), 3);  // the manifest, and one a TP rank
}

TEST(SaveLoad, WithoutModelSplitsEvenlyOrSaysThatItCannot) {
  const TemporaryFolder folder;
  const std::vector<int64_t> fused = {8, 16};
  const auto spec = [&] {
    return ShardSpec::segments(0, fused, ps::get_tensor_model_parallel_rank(),
                               ps::get_tensor_model_parallel_size());
  };
  const at::Tensor whole = distinct({24, 2}, 1);
  const auto save_with = [&](const ShardSpec& layout) {
    StateDict state;
    state["w"] = StateTensor{split(whole, layout),
                             TensorParallelAttributes{layout, "tp"}};
    pl::save(state, folder.path());
  };
  for (const int from : {1, 2, 4}) {
    run_tensor_parallel(from, [&] { save_with(spec()); });
    for (const int to : {1, 2, 4}) {
      run_tensor_parallel(to, [&] {
        const StateTensor got =
            pl::load(folder.path()).at("w").to_state_tensor();
        EXPECT_EQ(got.attributes->spec, spec());
        EXPECT_EQ(got.attributes->group, "tp");
        EXPECT_TRUE(same_bits(got.tensor, split(whole, spec())));
      });
    }
  }
  run_tensor_parallel(3, [&] {
    EXPECT_THAT(
        error_of<CheckpointError>([&] { pl::load(folder.path()); }),
        HasSubstr("load: w: was split over 4 tensor-parallel ranks, and cannot "
                  "be split evenly over 3; load it with the model that it "
                  "belongs to"));
  });
}

TEST(SaveLoad, TensorWithoutAttributesIsReplicatedOrItsRanks) {
  const TemporaryFolder folder;
  const auto own = [] {
    return torch::full({3}, ps::get_tensor_model_parallel_rank());
  };
  run_tensor_parallel(2, [&] {
    StateDict state;
    state["own"] = own();
    state["equal"] = distinct({5}, 1);
    pl::save(state, folder.path());
    const StateDict got = pl::load(folder.path());
    EXPECT_TRUE(same_bits(got.at("own").to_tensor(), own()));
    EXPECT_TRUE(same_bits(got.at("equal").to_tensor(), distinct({5}, 1)));
  });
  for (const int to : {1, 3}) {
    run_tensor_parallel(to, [&] {
      EXPECT_THAT(error_of<CheckpointError>([&] { pl::load(folder.path()); }),
                  HasSubstr("load: own: belongs to its rank, since it differed "
                            "between the 2 tensor-parallel ranks that saved "
                            "it; it cannot be loaded on " +
                            std::to_string(to)));
    });
  }
}

TEST(SaveLoad, TiesAreStoredOnceAndStayTies) {
  const TemporaryFolder folder;
  run_tensor_parallel(2, [&] {
    const at::Tensor shared = distinct({1000}, 1);
    StateDict state;
    state["a"] = shared;
    state["b"] = shared;
    state["c"] = shared.clone();
    pl::save(state, folder.path());
    const StateDict got = pl::load(folder.path());
    EXPECT_TRUE(got.at("a").to_tensor().is_alias_of(got.at("b").to_tensor()));
    EXPECT_FALSE(got.at("a").to_tensor().is_alias_of(got.at("c").to_tensor()));
  });
  size_t bytes = 0;
  for (const auto& [name, text] : folder.files()) {
    bytes += name == "manifest.json" ? 0 : text.size();
  }
  EXPECT_LT(bytes, 2 * 8000 + 1000);
}

/// What every one of two ranks throws from saving what `make` makes.
template <typename Make>
void expect_save_error(const std::string& text, Make&& make) {
  const TemporaryFolder folder;
  run_tensor_parallel(2, [&] {
    const int rank = static_cast<int>(ps::get_tensor_model_parallel_rank());
    const StateDict state = make(rank);
    EXPECT_THAT(
        error_of<InvalidArgument>([&] { pl::save(state, folder.path()); }),
        HasSubstr(text));
  });
  EXPECT_TRUE(folder.files().empty()) << text;
}

StateDict one(const std::string& key, StateValue value) {
  StateDict state;
  state[key] = std::move(value);
  return state;
}

TEST(SaveLoad, RefusesBeforeAnythingIsWritten) {
  expect_save_error(
      "on rank 1: save: a.w: is an undefined tensor", [](int rank) {
        return one("a", one("w", rank == 0 ? torch::ones({1}) : at::Tensor()));
      });
  expect_save_error(
      "save: z: has dtype ComplexFloat, which safetensors cannot hold; save "
      "view_as_real(tensor)",
      [](int) { return one("z", torch::ones({2}, torch::kComplexFloat)); });
  expect_save_error(
      "save: q: has dtype QInt8, which safetensors cannot hold", [](int) {
        return one("q", torch::quantize_per_tensor(torch::ones({2}), 0.1, 0,
                                                   torch::kQInt8));
      });
  expect_save_error("save: s: has layout Sparse, which cannot be saved",
                    [](int) { return one("s", torch::eye(2).to_sparse()); });
  expect_save_error(
      "save: m: is on the meta device and has no values",
      [](int) { return one("m", torch::ones({2}, torch::kMeta)); });
  expect_save_error("save: a.b: is the name of two values", [](int) {
    StateDict state = one("a", one("b", 1));
    state["a.b"] = 2;
    return state;
  });
  expect_save_error("save: t: is a string that is not UTF-8",
                    [](int) { return one("t", std::string("\xff")); });
  expect_save_error("save: __metadata__: is a name that safetensors keeps",
                    [](int) { return one("__metadata__", torch::ones({1})); });
  StateValue deep = 1;
  for (int i = 0; i < 300; ++i) {
    deep = one("d", deep);
  }
  expect_save_error("is nested deeper than 200 levels",
                    [&](int) { return one("d", deep); });
}

TEST(SaveLoad, RefusesWhatRanksDisagreeOn) {
  expect_save_error("\n  step: is 10 on rank 0 and 11 on rank 1",
                    [](int rank) { return one("step", 10 + rank); });
  expect_save_error(
      "\n  x: is a tensor on rank 0 and 1 on rank 1", [](int rank) {
        return one("x",
                   rank == 0 ? StateValue(torch::ones({1})) : StateValue(1));
      });
  expect_save_error("\n  a: is missing on rank 1\n  b: is missing on rank 0",
                    [](int rank) { return one(rank == 0 ? "a" : "b", 1); });
  expect_save_error("\n  a.0: is nested in other lists, tuples or dicts",
                    [](int rank) {
                      return one("a", StateList{{1}, rank == 0});
                    });
  const auto sharded = [](at::Tensor tensor, ShardSpec spec) {
    return one("w", StateTensor{std::move(tensor),
                                TensorParallelAttributes{spec, "tp"}});
  };
  expect_save_error(
      "\n  w: is F32 [2] (dim 0, [0, 2) of 4) on rank 0 and F64 [2] (dim 0, "
      "[2, 4) of 4) on rank 1",
      [&](int rank) {
        return sharded(
            torch::ones({2}, rank == 0 ? torch::kFloat : torch::kDouble),
            ShardSpec::even(0, 4, rank, 2));
      });
  expect_save_error(
      "\n  w: no rank of the tensor-parallel group holds [2, 4) of dim 0, "
      "which has size 4",
      [&](int) {
        return sharded(torch::ones({2}), ShardSpec::even(0, 4, 0, 2));
      });
  expect_save_error(
      "save: w: ranks 0 and 1 both hold [0, 2) of dim 0, with different values",
      [&](int rank) {
        return sharded(torch::full({2}, rank), ShardSpec{0, 2, {{0, 2}}, 2});
      });
  expect_save_error("w", [&](int rank) {  // attributes of another shape
    return sharded(torch::ones({3}), ShardSpec::even(0, 4, rank, 2));
  });
}

TEST(SaveLoad, LoadListsAllKeysThatDoNotFit) {
  const TemporaryFolder folder;
  run_tensor_parallel(2, [&] {
    StateDict model_state = state_dict(HandModel(1));
    model_state.erase("norm");
    model_state["extra"] = torch::ones({2, 3});
    model_state["scale"] = torch::ones({4});
    model_state["steps"] = torch::ones({});
    StateDict state;
    state["weights"] = model_state;
    state["step"] = 1;
    pl::save(state, folder.path());

    HandModel model(2);
    const std::string error = error_of<InvalidArgument>(
        [&] { pl::load(folder.path(), model, "weights"); });
    EXPECT_THAT(error, HasSubstr("load: " + folder.path().string() +
                                 " does not fit the model:"));
    EXPECT_THAT(error, HasSubstr("\n  missing: norm, F32 [7] in the model"));
    EXPECT_THAT(error, HasSubstr("\n  unexpected: extra, F32 [2, 3] to load"));
    EXPECT_THAT(error, HasSubstr("\n  mismatched: scale, F32 [] in the model, "
                                 "but F32 [4] to load"));
    EXPECT_THAT(error, HasSubstr("\n  mismatched: steps, I64 [] in the model, "
                                 "but F32 [] to load"));
    expect_weights(model, HandModel(2));

    EXPECT_THAT(
        error_of<InvalidArgument>([&] { pl::load(folder.path(), model); }),
        HasSubstr("has no state dict under the model key \"model\"; its keys "
                  "are: weights, step"));
  });
}

TEST(SaveLoad, FillsAnotherFloatingDtypeAsTorchDoes) {
  const TemporaryFolder folder;
  torch::nn::Linear linear(3, 4);
  StateDict state;
  state["model"] = state_dict(*linear);
  pl::save(state, folder.path());
  torch::nn::Linear half(3, 4);
  half->to(torch::kBFloat16);
  pl::load(folder.path(), *half);
  EXPECT_TRUE(same_bits(half->weight, linear->weight.to(torch::kBFloat16)));
}

TEST(SaveLoad, TiedModelRefusesTwoDifferentValues) {
  const TemporaryFolder folder;
  HandModel model(2);
  StateDict weights = state_dict(HandModel(1));
  weights["head"] = weights.at("head").to_tensor().clone();
  StateDict state;
  state["model"] = weights;
  pl::save(state, folder.path());
  pl::load(folder.path(), model);  // untied, but equal
  expect_weights(model, HandModel(1));

  weights["head"] = weights.at("head").to_tensor() + 1;
  state["model"] = weights;
  pl::save(state, folder.path());
  EXPECT_THAT(
      error_of<InvalidArgument>([&] { pl::load(folder.path(), model); }),
      HasSubstr("model.vocabulary and model.head are one tensor in the "
                "model, but have different values"));
  expect_weights(model, HandModel(1));
}

TEST(SaveLoad, SaysWhereThereIsNoCheckpoint) {
  const TemporaryFolder folder;
  EXPECT_THAT(
      error_of<CheckpointError>([&] { pl::load(folder.path() / "none"); }),
      HasSubstr("/none: is not a folder with a checkpoint"));
  EXPECT_THAT(error_of<CheckpointError>([&] { pl::load(folder.path()); }),
              HasSubstr("/manifest.json: is missing; no save into this folder "
                        "was completed"));
  folder.write("model.safetensors", "");
  EXPECT_THAT(error_of<CheckpointError>([&] { pl::load(folder.path()); }),
              HasSubstr("for plain safetensors files pass sharded = false"));
}

}  // namespace
}  // namespace colonnade

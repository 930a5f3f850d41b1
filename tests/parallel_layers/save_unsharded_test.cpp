// tests/parallel_layers/save_unsharded_test.cpp
#include "colonnade/core/error.h"
#include "colonnade/parallel_layers/save_load.h"
#include "tests/parallel_layers/hand_model.h"
#include "tests/parallel_layers/tensor_parallel_ranks.h"
#include "tests/testing/error_of.h"
#include "tests/testing/temporary_folder.h"

#include <torch/torch.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace colonnade {
namespace {

namespace fs = std::filesystem;
namespace pl = parallel_layers;
namespace ps = parallel_state;
using testing::HasSubstr;

constexpr bool kUnsharded = false;

TEST(SaveUnsharded, WritesOneFileThatLoadsAtEveryDegree) {
  std::string first;
  for (const int from : {1, 2, 3, 4}) {
    const TemporaryFolder folder;
    run_tensor_parallel(
        from, [&] { pl::save_unsharded(HandModel(1), folder.path()); });
    ASSERT_EQ(folder.files().size(), 1);
    const std::string bytes = folder.files().at("model.safetensors");
    if (first.empty()) {
      first = bytes;
    }
    EXPECT_EQ(bytes, first) << "saved on " << from;  // equal at every degree
    for (const int to : {1, 2, 3, 4}) {
      run_tensor_parallel(to, [&] {
        HandModel model(2);
        EXPECT_TRUE(pl::load(folder.path(), model, "", kUnsharded).empty());
        expect_weights(model, HandModel(1));
      });
    }
  }
}

TEST(SaveUnsharded, DataParallelReplicasCallToo) {
  const TemporaryFolder folder;
  run_tensor_parallel(
      2,
      [&] {
        pl::save_unsharded(HandModel(1), folder.path());
        HandModel model(2);
        pl::load(folder.path() / "model.safetensors", model, "", kUnsharded);
        expect_weights(model, HandModel(1));
      },
      /*dp=*/2);
}

TEST(SaveUnsharded, RefusesATensorWithoutAWhole) {
  const TemporaryFolder folder;
  run_tensor_parallel(2, [&] {
    HandModel model(1);
    model.register_buffer(
        "own", torch::full({2}, ps::get_tensor_model_parallel_rank()));
    EXPECT_THAT(error_of<InvalidArgument>(
                    [&] { pl::save_unsharded(model, folder.path()); }),
                HasSubstr("save_unsharded: own: differs between "
                          "tensor-parallel ranks"));
  });
  EXPECT_TRUE(folder.files().empty());
}

TEST(LoadUnsharded, ReadsAnIndexOrTheOnlyFile) {
  const TemporaryFolder folder;
  torch::nn::Linear a(2, 3);
  pl::save_unsharded(*a, folder.path());
  const fs::path& root = folder.path();
  fs::rename(root / "model.safetensors", root / "weights.safetensors");
  torch::nn::Linear b(2, 3);
  pl::load(root, *b, "", kUnsharded);
  EXPECT_TRUE(same_bits(b->weight, a->weight));

  torch::nn::Linear other(2, 3);
  pl::save_unsharded(*other, root);
  fs::rename(root / "model.safetensors", root / "second.safetensors");
  EXPECT_THAT(
      error_of<CheckpointError>([&] { pl::load(root, *b, "", kUnsharded); }),
      HasSubstr(": has 2 files *.safetensors, and neither "
                "model.safetensors nor model.safetensors.index.json; "
                "name the file"));

  const auto index = [&](const std::string& map) {
    folder.write("model.safetensors.index.json",
                 "{\"metadata\":{},\"weight_map\":" + map + "}");
  };
  index(R"({"weight":"weights.safetensors","bias":"second.safetensors"})");
  pl::load(root, *b, "", kUnsharded);
  EXPECT_TRUE(same_bits(b->weight, a->weight));
  EXPECT_TRUE(same_bits(b->bias, other->bias));

  const auto refused = [&](const std::string& map) {
    index(map);
    return error_of<CheckpointError>(
        [&] { pl::load(root, *b, "", kUnsharded); });
  };
  EXPECT_THAT(refused(R"({"weight":"../weights.safetensors"})"),
              HasSubstr("tensor weight: its file \"../weights.safetensors\" is "
                        "not a plain name in this folder"));
  EXPECT_THAT(refused(R"({"weight":"none.safetensors"})"),
              HasSubstr("/none.safetensors: cannot be opened: "));
  EXPECT_THAT(refused(R"({"nothing":"second.safetensors"})"),
              HasSubstr("/second.safetensors: has no tensor nothing, which "
                        "model.safetensors.index.json says is in it"));
  EXPECT_THAT(refused("[]"),
              HasSubstr("index.json: is not a JSON object with a weight_map"));
}

TEST(LoadUnsharded, ListsKeysThatDoNotFit) {
  const TemporaryFolder folder;
  torch::nn::Linear saved(2, 3);
  pl::save_unsharded(*saved, folder.path());
  torch::nn::Linear model(torch::nn::LinearOptions(2, 4).bias(false));
  const at::Tensor before = model->weight.detach().clone();
  const std::string error = error_of<InvalidArgument>(
      [&] { pl::load(folder.path(), *model, "", kUnsharded); });
  EXPECT_THAT(error, HasSubstr("\n  unexpected: bias, F32 [3] to load"));
  EXPECT_THAT(error, HasSubstr("\n  mismatched: weight, F32 [4, 2] in the "
                               "model, but F32 [3, 2] to load"));
  EXPECT_TRUE(same_bits(model->weight, before));
}

TEST(LoadUnsharded, PointsToShardedForACheckpointOfOurs) {
  const TemporaryFolder folder;
  torch::nn::Linear model(2, 3);
  StateDict state;
  state["model"] = state_dict(*model);
  pl::save(state, folder.path());
  EXPECT_THAT(error_of<CheckpointError>([&] {
                pl::load(folder.path(), *model, "model", kUnsharded);
              }),
              HasSubstr(": is a sharded checkpoint; load it with sharded = "
                        "true"));
}

}  // namespace
}  // namespace colonnade

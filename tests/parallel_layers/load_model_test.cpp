// tests/parallel_layers/load_model_test.cpp
#include "colonnade/core/error.h"
#include "colonnade/parallel_layers/save_load.h"
#include "tests/parallel_layers/hand_model.h"
#include "tests/testing/error_of.h"
#include "tests/testing/run_on_ranks.h"
#include "tests/testing/temporary_folder.h"

#include <torch/torch.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace colonnade {
namespace {

namespace pl = parallel_layers;
namespace ps = parallel_state;

/// Saves a model beside a tensor that belongs to its rank, which no other
/// degree can load.
void save_on_two_ranks(const std::filesystem::path& folder) {
  run_on_ranks(2, [&](int rank) {
    ps::initialize_model_parallel(2);
    StateDict config;
    config["layers"] = 3;
    StateDict state;
    state["model"] = state_dict(HandModel(1));
    state["own"] = torch::full({2}, rank);
    state["config"] = config;
    pl::save(state, folder);
  });
}

TEST(LoadModel, ReadsTheModelAlone) {
  const TemporaryFolder folder;
  save_on_two_ranks(folder.path());
  run_on_ranks(4, [&] {
    ps::initialize_model_parallel(4);
    HandModel model(2);
    EXPECT_THAT(
        error_of<CheckpointError>([&] { pl::load(folder.path(), model); }),
        testing::HasSubstr("own"));
    pl::load_model(folder.path(), model);
    const HandModel want(1);
    for (const auto& parameter : want.named_parameters()) {
      EXPECT_TRUE(same_bits(model.named_parameters()[parameter.key()],
                            parameter.value()))
          << parameter.key();
    }
  });
}

TEST(LoadModel, ValuesNeedNoRanks) {
  const TemporaryFolder folder;
  save_on_two_ranks(folder.path());
  const StateDict values = pl::load_values(folder.path());
  EXPECT_EQ(values.at("config").to_dict().at("layers").to_int(), 3);
  EXPECT_FALSE(values.at("own").to_tensor().defined());
  EXPECT_THAT(error_of<CheckpointError>(
                  [&] { pl::load_values(folder.path() / "none"); }),
              testing::HasSubstr("none"));
}

}  // namespace
}  // namespace colonnade

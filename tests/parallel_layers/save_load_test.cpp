// tests/parallel_layers/save_load_test.cpp
#include "colonnade/parallel_layers/save_load.h"

#include "colonnade/launch/launch.h"
#include "tests/parallel_layers/hand_model.h"
#include "tests/temporary_folder.h"

#include <torch/torch.h>

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <tuple>

namespace colonnade {
namespace {

namespace pl = parallel_layers;
namespace ps = parallel_state;

/// Runs `body` on `tp` ranks that form one tensor-parallel group.
template <typename Body>
void run_tensor_parallel(int tp, Body&& body) {
  run_ranks(tp, [&] {
    ps::initialize_model_parallel(tp);
    body();
  });
}

void expect_weights(const HandModel& got, const HandModel& want) {
  for (const auto& [name, whole, spec] : want.wholes) {
    const at::Tensor expected = spec.has_value() ? split(whole, *spec) : whole;
    EXPECT_TRUE(same_bits(got.named_parameters()[name], expected)) << name;
  }
  for (const char* name : {"mask", "steps"}) {
    EXPECT_TRUE(
        same_bits(got.named_buffers()[name], want.named_buffers()[name]))
        << name;
  }
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

}  // namespace
}  // namespace colonnade

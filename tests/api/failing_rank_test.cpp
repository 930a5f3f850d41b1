// tests/api/failing_rank_test.cpp
// A rank that fails anywhere in a program: the others hear of it, the caller
// gets its error, nothing hangs, and the next program runs.
#include "tests/api/mlp.h"
#include "tests/testing/error_of.h"
#include "tests/testing/temporary_folder.h"

#include <ATen/ops/ones.h>
#include <torch/nn/init.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>

namespace colonnade {
namespace {

namespace pl = parallel_layers;
namespace ps = parallel_state;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

/// An error that only the program knows.
struct Spill : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Runs `body(rank)` on `ranks` ranks of one tensor-parallel group, in which
/// rank 1 throws a Spill, and expects that every other rank is woken by a
/// CommError with its text.
template <typename Body>
void expect_spill(int ranks, Body&& body) {
  // Far above what a wake-up takes, far below what a person waits.
  const LaunchOptions options{.timeout = std::chrono::seconds(60)};
  std::atomic<int> woken = 0;
  const std::string error = error_of<Spill>([&] {
    run_ranks(
        ranks,
        [&](int rank) {
          try {
            ps::initialize_model_parallel(ranks);
            body(rank);
          } catch (const CommError& heard) {
            EXPECT_THAT(heard.what(),
                        HasSubstr("rank 1 failed: the milk is gone"));
            ++woken;
          }
        },
        options);
  });
  EXPECT_EQ(error, "the milk is gone");
  EXPECT_EQ(woken, ranks - 1);
}

[[noreturn]] void spill() {
  throw Spill("the milk is gone");
}

class FailingRankTest : public ::testing::TestWithParam<int> {};

TEST_P(FailingRankTest, InForward) {
  expect_spill(GetParam(), [](int rank) {
    Mlp model(12);
    if (rank == 1) {
      spill();
    }
    for (;;) {
      model(at::ones({2, 12}));
    }
  });
}

TEST_P(FailingRankTest, InBackward) {
  expect_spill(GetParam(), [](int rank) {
    Mlp model(12);
    at::Tensor x = at::ones({2, 12}).requires_grad_();
    const at::Tensor h = model->up(x);
    if (rank == 1) {
      h.register_hook([](const at::Tensor&) { spill(); });
    }
    model->down(h).sum().backward();
  });
}

TEST_P(FailingRankTest, InInitWhileTheOthersWaitForTheirTurn) {
  expect_spill(GetParam(), [](int rank) {
    const pl::ColumnParallelLinear layer(
        pl::ColumnParallelLinearOptions(8, 12).init_method(
            [&](at::Tensor& whole) {
              if (rank == 1) {
                std::this_thread::sleep_for(std::chrono::milliseconds(20));
                spill();
              }
              torch::nn::init::ones_(whole);
            }));
    ps::get_world_group()->barrier();
  });
}

TEST_P(FailingRankTest, BeforeSave) {
  const TemporaryFolder folder;
  expect_spill(GetParam(), [&](int rank) {
    Mlp model(12);
    StateDict state;
    state["model"] = state_dict(*model);
    if (rank == 1) {
      spill();
    }
    pl::save(state, folder.path());
  });
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "manifest.json"));
}

TEST_P(FailingRankTest, BeforeLoadLeavesTheModelsOfTheOthers) {
  const TemporaryFolder folder;
  run_ranks(2, [&] {
    ps::initialize_model_parallel(2);
    manual_seed(1);
    Mlp model(12);
    StateDict state;
    state["model"] = state_dict(*model);
    pl::save(state, folder.path());
  });
  expect_spill(GetParam(), [&](int rank) {
    manual_seed(2);
    Mlp model(12);
    const at::Tensor before = model->up->weight.detach().clone();
    if (rank == 1) {
      spill();
    }
    try {
      pl::load(folder.path(), *model);
    } catch (const CommError&) {
      EXPECT_TRUE(at::equal(model->up->weight, before));
      throw;
    }
  });
}

TEST_P(FailingRankTest, InClipGradNorm) {
  expect_spill(GetParam(), [](int rank) {
    Mlp model(12);
    model(at::ones({2, 12})).sum().backward();
    if (rank == 1) {
      spill();
    }
    pl::clip_grad_norm(model->parameters(), 1.0);
  });
}

TEST_P(FailingRankTest, ABodyThatGoesOnAfterACommErrorGetsItAgain) {
  expect_spill(GetParam(), [](int rank) {
    Mlp model(12);
    if (rank == 1) {
      spill();
    }
    for (int i = 0; i < 3; ++i) {
      EXPECT_THAT(error_of<CommError>([&] {
                    for (;;) {
                      model(at::ones({2, 12}));
                    }
                  }),
                  HasSubstr("rank 1 failed"));
    }
    // Also from what is made afterwards.
    ps::destroy_model_parallel();
    ps::initialize_model_parallel();
    ps::get_world_group()->barrier();
  });
}

INSTANTIATE_TEST_SUITE_P(Ranks, FailingRankTest, ::testing::Values(2, 3));

TEST(Misuse, RanksThatInitializeDifferentlyAllGetAnError) {
  std::atomic<int> errors = 0;
  const std::string error = error_of<CommError>([&] {
    run_ranks(2, [&](int rank) {
      ps::initialize_model_parallel(rank + 1);
      try {
        at::Tensor x = at::ones({2});
        ps::get_tensor_model_parallel_group()->all_reduce(x);
        ps::get_data_parallel_group()->all_reduce(x);
      } catch (const CommError&) {
        ++errors;
        throw;
      }
    });
  });
  EXPECT_EQ(errors, 2);
  EXPECT_THAT(error, AllOf(HasSubstr("\"tp\""), HasSubstr("\"dp\"")));
}

TEST(Misuse, RanksThatBuildDifferentModelsAllGetAnError) {
  std::atomic<int> errors = 0;
  const std::string error = error_of<CommError>([&] {
    run_ranks(2, [&](int rank) {
      ps::initialize_model_parallel(2);
      Mlp model(8 + 2 * rank);
      try {
        model(at::ones({3, 8 + 2 * rank}));
      } catch (const CommError&) {
        ++errors;
        throw;
      }
    });
  });
  EXPECT_EQ(errors, 2);
  EXPECT_THAT(error, AllOf(HasSubstr("[3, 8]"), HasSubstr("[3, 10]")));
}

TEST(Misuse, ALayerOnAThreadThatIsNoRankSaysSo) {
  run_ranks(2, [] {
    ps::initialize_model_parallel(2);
    Mlp model(12);
    std::string error;
    std::thread([&] {
      error = error_of<InvalidArgument>([&] { model(at::ones({2, 12})); });
    }).join();
    EXPECT_THAT(error, AllOf(HasSubstr("ColumnParallelLinear: "),
                             HasSubstr("initialize_model_parallel")));
  });
}

TEST(Misuse, ALayerOfAnotherDegreeSaysSo) {
  run_ranks(4, [] {
    ps::initialize_model_parallel(2);
    Mlp model(8);
    const at::Tensor y = model(at::ones({2, 8}));
    ps::destroy_model_parallel();
    ps::initialize_model_parallel(4);
    EXPECT_EQ(error_of<InvalidArgument>([&] {
                model(at::ones({2, 8}));
              }),
              "ColumnParallelLinear: output_size 32 over 4 ranks does not give "
              "the 16 that the weight of this rank has");
    EXPECT_THAT(error_of<InvalidArgument>([&] { y.sum().backward(); }),
                HasSubstr("the group \"tp\" is not one of this rank's"));
  });
}

TEST(Misuse, AnInitMethodMayBuildALayer) {
  run_ranks(2, [] {
    ps::initialize_model_parallel(2);
    const pl::ColumnParallelLinear layer(
        pl::ColumnParallelLinearOptions(4, 6).init_method(
            [](at::Tensor& whole) {
              const pl::RowParallelLinear other(4, 6);
              whole.copy_(other->bias.unsqueeze(1).expand_as(whole));
            }));
    EXPECT_TRUE(layer->weight.select(1, 0).equal(layer->weight.select(1, 3)));
  });
}

TEST(Misuse, ASpillOnEveryRankIsOneError) {
  for (const int ranks : {1, 2, 4}) {
    EXPECT_EQ(error_of<Spill>([&] { run_ranks(ranks, [] { spill(); }); }),
              "the milk is gone");
  }
}

}  // namespace
}  // namespace colonnade

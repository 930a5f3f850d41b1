// tests/random/generators_test.cpp
#include "colonnade/random/generators.h"

#include "colonnade/core/error.h"
#include "colonnade/launch/launch.h"
#include "colonnade/parallel_state/parallel_state.h"

#include <ATen/ATen.h>
#include <c10/core/GeneratorImpl.h>
#include <torch/utils.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <vector>

namespace colonnade {
namespace {

using parallel_state::destroy_model_parallel;
using parallel_state::get_tensor_model_parallel_rank;
using parallel_state::initialize_model_parallel;
using testing::StrEq;
using testing::ThrowsMessage;

at::Tensor draw() {
  return at::rand({5});
}

at::Tensor draw_tensor_parallel() {
  const TensorParallelRandomScope scope;
  return draw();
}

/// What torch draws after manual_seed(seed), in a process of its own.
at::Tensor torch_draw(uint64_t seed, int count = 1) {
  at::Generator generator =
      at::globalContext().defaultGenerator(at::kCPU).clone();
  generator.set_current_seed(seed);
  at::Tensor drawn;
  for (int i = 0; i < count; ++i) {
    drawn = at::rand({5}, generator);
  }
  return drawn;
}

TEST(ManualSeed, OutsideARankIsTorchs) {
  manual_seed(4);
  const at::Tensor got = draw();
  torch::manual_seed(4);
  EXPECT_TRUE(at::equal(got, draw()));
}

TEST(ManualSeed, SeedsThisRankOnly) {
  run_ranks(3, [](int rank) {
    manual_seed(rank);
    EXPECT_TRUE(at::equal(draw(), torch_draw(rank)));
  });
}

TEST(ManualSeed, WithoutItRanksHaveTorchsDefaultSeed) {
  run_ranks(2, [] {
    initialize_model_parallel(2);
    EXPECT_TRUE(at::equal(draw(), torch_draw(c10::default_rng_seed_val)));
    EXPECT_TRUE(at::equal(
        draw_tensor_parallel(),
        torch_draw(tensor_parallel_seed(c10::default_rng_seed_val,
                                        get_tensor_model_parallel_rank()))));
  });
}

TEST(ManualSeed, HoldsForAGeneratorMadeBefore) {
  run_ranks(2, [] {
    initialize_model_parallel(2);
    draw();
    draw_tensor_parallel();
    manual_seed(9);
    EXPECT_TRUE(at::equal(draw(), torch_draw(9)));
    EXPECT_TRUE(at::equal(
        draw_tensor_parallel(),
        torch_draw(tensor_parallel_seed(9, get_tensor_model_parallel_rank()))));
  });
}

/// Four ranks, tensor-parallel groups {0, 1} and {2, 3}.
TEST(TensorParallelRandomScope, SeedsAreRightWhicheverComesFirst) {
  using Steps = std::vector<std::function<void()>>;
  const auto seed = [] { manual_seed(2); };
  const auto init = [] { initialize_model_parallel(2); };
  const auto use = [] { draw_tensor_parallel(); };
  for (const Steps& steps :
       {Steps{seed, init}, Steps{init, seed}, Steps{seed, use, init},
        Steps{use, seed, init}, Steps{init, use, seed}}) {
    run_ranks(4, [&](int rank) {
      for (const auto& step : steps) {
        step();
      }
      EXPECT_TRUE(at::equal(draw_tensor_parallel(),
                            torch_draw(tensor_parallel_seed(2, rank % 2))));
      EXPECT_TRUE(at::equal(draw(), torch_draw(2)));
    });
  }
}

TEST(TensorParallelRandomScope, LeavesTheReplicatedStreamAlone) {
  run_ranks(2, [] {
    initialize_model_parallel(2);
    manual_seed(6);
    EXPECT_TRUE(at::equal(draw(), torch_draw(6)));
    draw_tensor_parallel();
    EXPECT_TRUE(at::equal(draw(), torch_draw(6, 2)));
    const TensorParallelRandomScope outer;
    {
      const TensorParallelRandomScope inner;
      draw();
    }
    EXPECT_TRUE(at::equal(
        draw(),
        torch_draw(tensor_parallel_seed(6, get_tensor_model_parallel_rank()),
                   3)));
  });
}

TEST(TensorParallelRandomScope, DoesNothingOutsideARank) {
  manual_seed(8);
  EXPECT_TRUE(at::equal(draw_tensor_parallel(), torch_draw(8)));
}

TEST(TensorParallelSeed, IsSplitMix64) {
  // The first two outputs of the reference generator from the state 1234567.
  EXPECT_EQ(tensor_parallel_seed(1234567, 0), 6457827717110365317u);
  EXPECT_EQ(tensor_parallel_seed(1234567 + 0x9e3779b97f4a7c15, 0),
            3203168211198807973u);
  EXPECT_EQ(tensor_parallel_seed(1234567, 3), 6457827717110365320u);
}

TEST(RandomState, RepeatsBothStreams) {
  run_ranks(2, [] {
    initialize_model_parallel(2);
    manual_seed(1);
    at::randn({3});  // leaves half of a pair behind
    const RandomState state = random_state();
    const at::Tensor replicated = at::randn({3}),
                     sharded = draw_tensor_parallel();
    set_random_state(state);
    EXPECT_TRUE(at::equal(at::randn({3}), replicated));
    EXPECT_TRUE(at::equal(draw_tensor_parallel(), sharded));
  });
}

TEST(RandomState, PutBackBeforeInitializeStays) {
  run_ranks(2, [](int rank) {
    initialize_model_parallel(2);
    manual_seed(10 + rank);
    draw_tensor_parallel();
    const RandomState state = random_state();
    const at::Tensor want = draw_tensor_parallel();
    destroy_model_parallel();
    manual_seed(0);
    set_random_state(state);
    initialize_model_parallel(2);
    EXPECT_TRUE(at::equal(draw_tensor_parallel(), want));
    manual_seed(3);
    EXPECT_TRUE(at::equal(draw_tensor_parallel(),
                          torch_draw(tensor_parallel_seed(3, rank))));
  });
}

TEST(RandomState, OutsideARankIsTorchs) {
  torch::manual_seed(12);
  const RandomState state = random_state();
  EXPECT_TRUE(at::equal(state.replicated, state.tensor_parallel));
  const at::Tensor want = draw();
  set_random_state(state);
  EXPECT_TRUE(at::equal(draw(), want));
}

TEST(RandomState, GoesFromOutsideIntoARank) {
  torch::manual_seed(13);
  const RandomState state = random_state();
  const at::Tensor want = draw();
  run_ranks(2, [&] {
    set_random_state(state);
    EXPECT_TRUE(at::equal(draw(), want));
  });
}

TEST(RandomState, RefusesWhatIsNoStateAndChangesNothing) {
  const auto refuses = [] {
    const RandomState good = random_state();
    RandomState bad = good;
    bad.replicated = at::zeros({7}, at::kByte);
    EXPECT_THAT([&] { set_random_state(bad); },
                ThrowsMessage<InvalidArgument>(
                    StrEq("set_random_state: replicated is a tensor of 7 Byte "
                          "on cpu, not of 5056 Byte on cpu; pass what "
                          "random_state() gave")));
    bad.replicated = at::Tensor();
    EXPECT_THAT([&] { set_random_state(bad); },
                ThrowsMessage<InvalidArgument>(
                    StrEq("set_random_state: replicated is undefined; pass "
                          "what random_state() gave")));
    EXPECT_TRUE(at::equal(random_state().replicated, good.replicated));
  };
  refuses();
  run_ranks(1, [&] {
    refuses();
    const RandomState good = random_state();
    draw();
    const RandomState later = random_state();
    EXPECT_THAT(
        [&] {
          set_random_state(
              {good.replicated, good.tensor_parallel.to(at::kInt)});
        },
        ThrowsMessage<InvalidArgument>(
            StrEq("set_random_state: tensor_parallel is a tensor of 5056 Int "
                  "on cpu, not of 5056 Byte on cpu; pass what random_state() "
                  "gave")));
    EXPECT_TRUE(at::equal(random_state().replicated, later.replicated));
  });
}

TEST(CurrentGenerator, IsTheOneInUse) {
  EXPECT_EQ(current_generator(),
            at::globalContext().defaultGenerator(at::kCPU));
  run_ranks(1, [] {
    const at::Generator replicated = current_generator();
    EXPECT_NE(replicated, at::globalContext().defaultGenerator(at::kCPU));
    EXPECT_EQ(current_generator(), replicated);
    const TensorParallelRandomScope scope;
    EXPECT_NE(current_generator(), replicated);
  });
}

TEST(TensorParallelRandomScope, LeadsIntoTheOtherGeneratorAndBack) {
  run_ranks(1, [] {
    const at::Generator replicated = current_generator();
    EXPECT_FALSE(in_tensor_parallel_random());
    const TensorParallelRandomScope scope;
    EXPECT_TRUE(in_tensor_parallel_random());
    {
      const TensorParallelRandomScope outside(false);
      EXPECT_FALSE(in_tensor_parallel_random());
      EXPECT_EQ(current_generator(), replicated);
    }
    EXPECT_TRUE(in_tensor_parallel_random());
  });
}

}  // namespace
}  // namespace colonnade

// tests/launch/run_ranks_test.cpp
#include "colonnade/comm/rank_context.h"
#include "colonnade/core/error.h"
#include "colonnade/launch/launch.h"
#include "tests/comm/world_group.h"
#include "tests/testing/error_of.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <stdexcept>
#include <string>
#include <thread>

namespace colonnade {
namespace {

using testing::HasSubstr;

TEST(RunRanks, RunsTheBodyOnceForEachRank) {
  for (const int n : {1, 2, 3, 8}) {
    std::array<std::atomic<int>, 8> runs{};
    run_ranks(n, [&](int rank) {
      ++runs[static_cast<size_t>(rank)];
      EXPECT_EQ(RankContext::current()->world()->rank(), rank);
      EXPECT_EQ(RankContext::current()->world()->size(), n);
      EXPECT_EQ(RankContext::current()->world()->backend(),
                n == 1 ? "self" : "threads");
    });
    for (int rank = 0; rank < 8; ++rank) {
      EXPECT_EQ(runs[static_cast<size_t>(rank)], rank < n ? 1 : 0);
    }
  }
}

TEST(RunRanks, TakesABodyWithoutRank) {
  std::atomic<int> runs = 0;
  run_ranks(2, [&] { ++runs; });
  EXPECT_EQ(runs, 2);
}

TEST(RunRanks, LeavesNoContextBehind) {
  run_ranks(1, [] {});
  EXPECT_EQ(RankContext::current()->world(), nullptr);
}

TEST(RunRanks, RethrowsTheFirstErrorWithItsType) {
  EXPECT_EQ(error_of<std::out_of_range>([] {
              run_ranks(3, [](int rank) {
                const GroupPtr group = make_world_group();
                if (rank == 1) {
                  throw std::out_of_range("the cause");
                }
                group->barrier();
              });
            }),
            "the cause");
}

TEST(RunRanks, RethrowsWhatIsNoException) {
  try {
    run_ranks(2, [](int rank) {
      const GroupPtr group = make_world_group();
      if (rank == 0) {
        throw 42;
      }
      EXPECT_THAT(error_of<CommError>([&] { group->barrier(); }),
                  HasSubstr("rank 0 failed: an exception that is no "
                            "std::exception"));
    });
    FAIL() << "nothing was thrown";
  } catch (int value) {
    EXPECT_EQ(value, 42);
  }
}

TEST(RunRanks, RunsAgainAfterAnError) {
  EXPECT_THROW(run_ranks(2, [] { throw std::runtime_error("no"); }),
               std::runtime_error);
  run_ranks(2, [] { make_world_group()->barrier(); });
}

TEST(RunRanks, DrawsTheSameNumbersOnEveryRank) {
  std::array<at::Tensor, 2> drawn;
  run_ranks(2,
            [&](int rank) { drawn[static_cast<size_t>(rank)] = at::rand(9); });
  EXPECT_TRUE(at::equal(drawn[0], drawn[1]));
}

TEST(RunRanks, RefusesFewerThanOneRank) {
  EXPECT_EQ(error_of<InvalidArgument>([] { run_ranks(0, [] {}); }),
            "run_ranks: the number of ranks is 0; it must be at least 1");
}

TEST(RunRanks, RefusesToNest) {
  run_ranks(2, [] {
    EXPECT_THAT(error_of<InvalidArgument>([] { run_ranks(2, [] {}); }),
                HasSubstr("run_ranks: called inside a rank"));
  });
}

TEST(RunRanks, RefusesBackendsThatCannotMakeThreads) {
  LaunchOptions options;
  options.backend = "gloo";
  EXPECT_THAT(
      error_of<InvalidArgument>([&] {
        run_ranks(
            2, [] {}, options);
      }),
      HasSubstr("run_ranks: the ranks of gloo are processes; use launch"));
  options.backend = "carrier pigeon";
  EXPECT_EQ(error_of<InvalidArgument>([&] {
              run_ranks(
                  2, [] {}, options);
            }),
            "backend: there is none called \"carrier pigeon\"; name one of "
            "self, threads, shm, gloo, nccl, mpi");
  options.backend = "self";
  EXPECT_EQ(error_of<InvalidArgument>([&] {
              run_ranks(
                  2, [] {}, options);
            }),
            "self: one rank, not 2; the backend threads makes more");
}

TEST(RunRanks, GivesGroupsItsTimeout) {
  LaunchOptions options;
  options.timeout = std::chrono::milliseconds(1234);
  for (const int n : {1, 2}) {
    run_ranks(
        n, [] { EXPECT_EQ(make_world_group()->timeout().count(), 1234); },
        options);
  }
}

TEST(RunRanks, HandsOnTheCallersModes) {
  for (const bool grad : {false, true}) {
    const at::AutoGradMode mode(grad);
    run_ranks(2, [&] { EXPECT_EQ(at::GradMode::is_enabled(), grad); });
  }
  const c10::InferenceMode mode;
  run_ranks(2, [] { EXPECT_TRUE(c10::InferenceMode::is_enabled()); });
}

TEST(RunRanks, DividesTheCoresAndLeavesTheCallerAsItWas) {
  cpu_set_t before;
  ASSERT_EQ(sched_getaffinity(0, sizeof(before), &before), 0);
  const int cores = CPU_COUNT(&before);
  const int threads = at::get_num_threads();
  std::atomic<int> pinned = 0;
  run_ranks(2, [&] {
    EXPECT_LE(at::get_num_threads(), std::max(1, cores / 2));
    cpu_set_t mine;
    ASSERT_EQ(sched_getaffinity(0, sizeof(mine), &mine), 0);
    pinned += CPU_COUNT(&mine) < cores;
  });
  EXPECT_TRUE(pinned == 2 || pinned == 0);
  LaunchOptions options;
  options.pin = false;
  run_ranks(
      2,
      [&] {
        cpu_set_t mine;
        ASSERT_EQ(sched_getaffinity(0, sizeof(mine), &mine), 0);
        EXPECT_TRUE(CPU_EQUAL(&mine, &before));
      },
      options);
  cpu_set_t after;
  ASSERT_EQ(sched_getaffinity(0, sizeof(after), &after), 0);
  EXPECT_TRUE(CPU_EQUAL(&before, &after));
  EXPECT_EQ(at::get_num_threads(), threads);
}

}  // namespace
}  // namespace colonnade

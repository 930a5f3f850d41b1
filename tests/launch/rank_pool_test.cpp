// tests/launch/rank_pool_test.cpp
#include "colonnade/launch/rank_pool.h"

#include "colonnade/comm/rank_context.h"
#include "colonnade/core/cores.h"
#include "colonnade/core/error.h"
#include "tests/comm/world_group.h"
#include "tests/testing/error_of.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <iterator>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace colonnade {
namespace {

using testing::HasSubstr;

/// Gives each rank a group of all ranks, called "all".
void set_up_group() {
  RankContext::current()->add_group(make_world_group());
}

/// The sum of `x` over the ranks.
float sum_over_ranks(float x) {
  at::Tensor sum = at::full({1}, x);
  RankContext::current()->group("all")->all_reduce(sum);
  return sum.item<float>();
}

long threads_of_this_process() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/task"),
                       std::filesystem::directory_iterator());
}

/// Waits until there are no more than `n` threads: one that was joined is
/// listed for a moment.
void expect_threads(long n) {
  for (int i = 0; i < 10000 && threads_of_this_process() > n; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(threads_of_this_process(), n);
}

TEST(RankPool, RunsTheBodyOnEveryRank) {
  for (const int n : {1, 2, 3, 8}) {
    RankPool pool(n, [] {});
    EXPECT_EQ(pool.size(), n);
    for (int call = 0; call < 5; ++call) {
      std::array<std::atomic<int>, 8> runs{};
      std::array<std::thread::id, 8> ids{};
      pool.run([&](int rank) {
        const auto r = static_cast<size_t>(rank);
        ++runs[r];
        ids[r] = std::this_thread::get_id();
        EXPECT_EQ(RankContext::current()->world()->rank(), rank);
        EXPECT_EQ(RankContext::current()->world()->size(), n);
      });
      for (int rank = 0; rank < 8; ++rank) {
        EXPECT_EQ(runs[static_cast<size_t>(rank)], rank < n ? 1 : 0);
      }
      EXPECT_EQ(ids[0], std::this_thread::get_id());
    }
  }
}

TEST(RankPool, LeavesNoContextBehind) {
  RankPool pool(2, [] {});
  pool.run([](int) {});
  EXPECT_EQ(RankContext::current()->world(), nullptr);
}

TEST(RankPool, MakesCollectivesInEveryCall) {
  RankPool pool(3, set_up_group);
  for (int call = 0; call < 20; ++call) {
    std::array<float, 3> sums{};
    pool.run([&](int rank) {
      sums[static_cast<size_t>(rank)] =
          sum_over_ranks(static_cast<float>(rank + call)) + sum_over_ranks(1);
    });
    for (const float sum : sums) {
      EXPECT_EQ(sum, static_cast<float>(3 * call + 6));
    }
  }
}

TEST(RankPool, SetsUpOncePerRank) {
  std::array<std::atomic<int>, 2> setups{};
  RankPool pool(2, [&] {
    ++setups[static_cast<size_t>(RankContext::current()->world()->rank())];
  });
  pool.run([](int) {});
  pool.run([](int) {});
  EXPECT_EQ(setups[0], 1);
  EXPECT_EQ(setups[1], 1);
}

TEST(RankPool, KeepsContextsAndGeneratorsBetweenCalls) {
  at::Tensor in_one_run;
  run_ranks(1, [&] { in_one_run = at::cat({at::rand(9), at::rand(9)}); });
  std::array<RankContext*, 2> contexts{};
  std::array<at::Tensor, 2> first;
  std::array<at::Tensor, 2> second;
  RankPool pool(2, set_up_group);
  std::thread([&] {
    pool.run([&](int rank) {
      const auto r = static_cast<size_t>(rank);
      contexts[r] = RankContext::current().get();
      first[r] = at::rand(9);
    });
  }).join();
  pool.run([&](int rank) {
    const auto r = static_cast<size_t>(rank);
    EXPECT_EQ(RankContext::current().get(), contexts[r]);
    second[r] = at::rand(9);
  });
  for (size_t rank = 0; rank < 2; ++rank) {
    EXPECT_TRUE(at::equal(at::cat({first[rank], second[rank]}), in_one_run));
  }
}

TEST(RankPool, NamesTheRankInColonnadesErrors) {
  RankPool pool(2, set_up_group);
  const auto throw_at = [&](int bad, auto error) {
    pool.run([&](int rank) {
      if (rank == bad) {
        throw error;
      }
      EXPECT_THAT(error_of<CommError>([] { sum_over_ranks(1); }),
                  HasSubstr("failed: the cause"));
    });
  };
  EXPECT_EQ(error_of<InvalidArgument>(
                [&] { throw_at(0, InvalidArgument("the cause")); }),
            "rank 0: the cause");
  EXPECT_EQ(error_of<CheckpointError>(
                [&] { throw_at(1, CheckpointError("the cause")); }),
            "rank 1: the cause");
  EXPECT_EQ(error_of<CommError>([&] { throw_at(1, CommError("the cause")); }),
            "rank 1: the cause");
  EXPECT_EQ(error_of<Error>([&] { throw_at(1, Error("the cause")); }),
            "rank 1: the cause");
}

TEST(RankPool, NamesTheRankInTorchsErrors) {
  RankPool pool(2, set_up_group);
  EXPECT_THAT(error_of<c10::IndexError>([&] {
                pool.run([](int rank) {
                  if (rank == 1) {
                    at::zeros({3}).select(0, 7);
                  }
                  sum_over_ranks(1);
                });
              }),
              testing::ContainsRegex("out of range .*\\(rank 1\\)"));
}

TEST(RankPool, RethrowsOtherErrorsAsTheyAre) {
  RankPool pool(2, [] {});
  EXPECT_EQ(error_of<std::out_of_range>([&] {
              pool.run([](int rank) {
                if (rank == 1) {
                  throw std::out_of_range("the cause");
                }
              });
            }),
            "the cause");
  try {
    pool.run([](int rank) {
      if (rank == 1) {
        throw 42;
      }
    });
    FAIL() << "nothing was thrown";
  } catch (int value) {
    EXPECT_EQ(value, 42);
  }
}

TEST(RankPool, RunsAgainAfterAFailure) {
  for (const int n : {1, 2}) {
    for (const std::vector<int>& bad :
         {std::vector<int>{0}, {n - 1}, {0, n - 1}}) {
      std::atomic<int> setups = 0;
      RankPool pool(n, [&] {
        ++setups;
        set_up_group();
      });
      for (int call = 1; call <= 3; ++call) {
        EXPECT_THROW(pool.run([&](int rank) {
          if (std::find(bad.begin(), bad.end(), rank) != bad.end()) {
            throw std::runtime_error("no");
          }
          sum_over_ranks(1);
        }),
                     std::runtime_error);
        pool.run(
            [&](int) { EXPECT_EQ(sum_over_ranks(1), static_cast<float>(n)); });
        EXPECT_EQ(setups, n * (call + 1));
      }
    }
  }
}

TEST(RankPool, TriesSetupAgainWhereItFailed) {
  std::atomic<int> setups = 0;
  RankPool pool(2, [&] {
    if (RankContext::current()->world()->rank() == 1 && setups++ < 2) {
      throw InvalidArgument("no setup");
    }
    set_up_group();
  });
  for (int call = 0; call < 2; ++call) {
    EXPECT_EQ(error_of<InvalidArgument>([&] { pool.run([](int) {}); }),
              "rank 1: no setup");
  }
  pool.run([](int) { EXPECT_EQ(sum_over_ranks(1), 2); });
}

/// Gives the ranks of `members` a group, called "some".
std::function<void()> set_up_group_of(std::vector<int64_t> members) {
  return [members = std::move(members)] {
    const int64_t rank = RankContext::current()->world()->rank();
    if (std::find(members.begin(), members.end(), rank) != members.end()) {
      RankContext::current()->add_group(make_group(members));
    }
  };
}

/// The error of a call in which the ranks of `waiting` wait for each other and
/// for rank `returned` in the group "some"; the next call is right.
std::string error_where_one_returns(RankPool& pool, int64_t returned,
                                    const std::vector<int64_t>& waiting) {
  const auto waits = [&](int rank) {
    return std::find(waiting.begin(), waiting.end(), rank) != waiting.end();
  };
  const auto reduce = [] {
    at::Tensor x = at::ones({2});
    RankContext::current()->group("some")->all_reduce(x);
    return x.sum().item<int64_t>();
  };
  const std::string text = error_of<CommError>([&] {
    pool.run([&](int rank) {
      if (waits(rank)) {
        reduce();
      }
    });
  });
  pool.run([&](int rank) {
    if (waits(rank) || rank == returned) {
      EXPECT_EQ(reduce(), 2 * (waiting.size() + 1));
    }
  });
  return text;
}

TEST(RankPool, FailsWhereARankReturnsForWhichAnotherWaits) {
  for (const int n : {2, 4}) {
    for (int64_t a = 0; a < n; ++a) {
      for (int64_t b = 0; b < n; ++b) {
        if (a == b) {
          continue;
        }
        RankPool pool(n, set_up_group_of({std::min(a, b), std::max(a, b)}));
        for (int call = 0; call < 3; ++call) {
          EXPECT_EQ(
              error_where_one_returns(pool, a, {b}),
              concat("rank ", b, ": rank ", a, " has returned, but rank ", b,
                     " waits for it in all_reduce(float32 [2], sum), call ",
                     call == 0 ? 1 : 2,  // the ranks begin anew after a failure
                     " of group \"some\"; all ranks must make the same "
                     "calls"));
        }
      }
    }
  }
}

TEST(RankPool, FailsWhereSeveralWaitForARankThatReturns) {
  for (const int64_t size : {3, 4}) {
    for (int64_t returned = 0; returned < size; ++returned) {
      std::vector<int64_t> waiting(static_cast<size_t>(size));
      std::iota(waiting.begin(), waiting.end(), 0);
      RankPool pool(4, set_up_group_of(waiting));
      waiting.erase(waiting.begin() + returned);
      EXPECT_THAT(error_where_one_returns(pool, returned, waiting),
                  testing::MatchesRegex(concat(
                      "rank [0-3]: rank ", returned,
                      " has returned, but rank [0-3] waits for it in "
                      "all_reduce\\(float32 \\[2\\], sum\\), call 1 of group "
                      "\"some\"; all ranks must make the same calls")));
    }
  }
}

TEST(RankPool, FailsOnARankThatComesAfterTheFailure) {
  RankPool pool(3, set_up_group);
  const std::string cause =
      "rank 2 has returned, but rank 1 waits for it in recv(float32 [1], src "
      "2), call 1 of group \"all\"; all ranks must make the same calls";
  std::atomic<bool> failed = false;
  EXPECT_EQ(error_of<CommError>([&] {
              pool.run([&](int rank) {
                if (rank == 0) {
                  while (!failed) {
                    std::this_thread::yield();
                  }
                  EXPECT_EQ(error_of<CommError>([] { sum_over_ranks(1); }),
                            cause +
                                "; rank 0 was in all_reduce(float32 [1], "
                                "sum), call 1 of group \"all\" (ranks 0, "
                                "1 and 2)");
                } else if (rank == 1) {
                  at::Tensor x = at::zeros({1});
                  try {
                    RankContext::current()->group("all")->recv(x, 2);
                  } catch (const CommError&) {
                    failed = true;
                    throw;
                  }
                }
              });
            }),
            "rank 1: " + cause);
}

TEST(RankPool, FailsWhereSetupReturnsForWhichAnotherWaits) {
  RankPool pool(2, [] {
    const GroupPtr group = make_world_group();
    if (group->rank() == 0) {
      group->barrier();
    }
  });
  for (int call = 0; call < 2; ++call) {
    EXPECT_EQ(error_of<CommError>([&] { pool.run([](int) {}); }),
              "rank 0: rank 1 has returned, but rank 0 waits for it in "
              "barrier(), call 1 of group \"all\"; all ranks must make the "
              "same calls");
  }
}

/// Sleeps for up to 1 ms, so at times beyond a waiting rank's patience, but
/// seldom.
void sleep_at_random(std::minstd_rand& random) {
  if (random() % 32 == 0) {
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 1000));
  }
}

TEST(RankPool, WaitsForRanksThatAreLate) {
  for (const int n : {2, 3}) {
    RankPool pool(n, [&] {
      set_up_group();
      if (RankContext::current()->world()->rank() < 2) {
        RankContext::current()->add_group(make_group({0, 1}, "pair"));
      }
    });
    const int calls = n == 2 ? 15000 : 5000;
    for (int call = 0; call < calls; ++call) {
      pool.run([&](int rank) {
        std::minstd_rand random(static_cast<unsigned>(call * n + rank + 1));
        sleep_at_random(random);
        for (int i = 0; i < call % 3; ++i) {
          EXPECT_EQ(sum_over_ranks(1), static_cast<float>(n));
          sleep_at_random(random);
        }
        if (rank < 2 && call % 5 > 1) {  // the third may have returned
          RankContext::current()->group("pair")->barrier();
          sleep_at_random(random);
        }
      });
    }
  }
}

TEST(RankPool, WaitsForARankThatRestedBeforeTheCall) {
  for (const int n : {2, 3}) {
    for (int late = 0; late < n; ++late) {
      RankPool pool(n, set_up_group);
      for (int call = 0; call < 5; ++call) {
        pool.run([&](int rank) {
          if (rank == late) {
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
          }
          sum_over_ranks(1);
        });
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
      }
    }
  }
}

TEST(RankPool, EndsAfterAFailure) {
  const long before = threads_of_this_process();
  {
    const RankPool never_run(3, [] {});
    RankPool failed(3, [] {});
    EXPECT_THROW(failed.run([](int) { throw std::runtime_error("no"); }),
                 std::runtime_error);
    EXPECT_EQ(threads_of_this_process(), before + 4);
  }
  expect_threads(before);
}

TEST(RankPool, ServesThreadsInTurnWhileOthersFail) {
  constexpr int kCallers = 4;
  constexpr int kCalls = 500;
  run_ranks(2, [] { at::ones(1).add_(1); });  // what torch starts, is started
  const long before = threads_of_this_process();
  {
    RankPool pool(2, set_up_group);
    std::atomic<int> inside = 0;
    std::atomic<int> right = 0;
    std::atomic<int> callers = kCallers;
    std::vector<std::thread> threads;
    for (int caller = 0; caller < kCallers; ++caller) {
      threads.emplace_back([&, caller] {
        for (int call = 0; call < kCalls; ++call) {
          const auto x = static_cast<float>(caller * kCalls + call);
          std::array<float, 2> sums{};
          pool.run([&](int rank) {
            if (rank == 0) {
              EXPECT_EQ(inside++, 0);
            }
            sums[static_cast<size_t>(rank)] = sum_over_ranks(x);
            if (rank == 0) {
              --inside;
            }
          });
          right += sums[0] == 2 * x && sums[1] == 2 * x;
        }
        --callers;
      });
    }
    for (int call = 0; callers > 0; ++call) {
      EXPECT_EQ(error_of<InvalidArgument>([&] {
                  pool.run([&](int rank) {
                    if (rank == call % 2) {
                      throw InvalidArgument("no");
                    }
                    sum_over_ranks(1);
                  });
                }),
                concat("rank ", call % 2, ": no"));
    }
    for (std::thread& thread : threads) {
      thread.join();
    }
    EXPECT_EQ(right, kCallers * kCalls);
  }
  expect_threads(before);
}

TEST(RankPool, RefusesACallInsideARank) {
  RankPool pool(2, [] {});
  RankPool other(1, [] {});
  const std::string refusal =
      "RankPool: run was called inside a rank; a rank cannot have ranks of its "
      "own, so call it from a thread that is none";
  const auto nest = [&] {
    EXPECT_EQ(error_of<InvalidArgument>([&] { pool.run([](int) {}); }),
              refusal);
    EXPECT_THAT(error_of<InvalidArgument>([&] { run_ranks(2, [] {}); }),
                HasSubstr("run_ranks: called inside a rank"));
  };
  pool.run([&](int) { nest(); });
  other.run([&](int) { nest(); });
  run_ranks(2, nest);
  pool.run([](int) {});
}

TEST(RankPool, RefusesWhatIsNoPool) {
  EXPECT_EQ(error_of<InvalidArgument>([] { RankPool(2, nullptr); }),
            "RankPool: setup is empty; give one that does nothing where there "
            "is nothing to set up");
  EXPECT_EQ(error_of<InvalidArgument>([] { RankPool(0, [] {}); }),
            "RankPool: the number of ranks is 0; it must be at least 1");
  LaunchOptions options;
  options.backend = "gloo";
  EXPECT_THAT(
      error_of<InvalidArgument>([&] {
        RankPool(
            2, [] {}, options);
      }),
      HasSubstr("RankPool: the ranks of gloo are processes; use launch"));
}

TEST(RankPool, HandsOnTheCallersModes) {
  RankPool pool(2, [] {});
  for (const bool grad : {false, true}) {
    const at::AutoGradMode mode(grad);
    pool.run([&](int) { EXPECT_EQ(at::GradMode::is_enabled(), grad); });
  }
  {
    const c10::InferenceMode mode;
    pool.run([](int) { EXPECT_TRUE(c10::InferenceMode::is_enabled()); });
  }
  const at::ScalarType dtype = at::autocast::get_autocast_dtype(at::kCPU);
  at::autocast::set_autocast_enabled(at::kCPU, true);
  at::autocast::set_autocast_dtype(at::kCPU, at::kHalf);
  pool.run([](int) {
    EXPECT_TRUE(at::autocast::is_autocast_enabled(at::kCPU));
    EXPECT_EQ(at::autocast::get_autocast_dtype(at::kCPU), at::kHalf);
  });
  at::autocast::set_autocast_enabled(at::kCPU, false);
  at::autocast::set_autocast_dtype(at::kCPU, dtype);
  pool.run([&](int) {
    EXPECT_FALSE(c10::InferenceMode::is_enabled());
    EXPECT_TRUE(at::GradMode::is_enabled());
    EXPECT_FALSE(at::autocast::is_autocast_enabled(at::kCPU));
    EXPECT_EQ(at::autocast::get_autocast_dtype(at::kCPU), dtype);
  });
}

TEST(RankPool, DividesTheCoresAndLeavesTheCallerAsItWas) {
  cpu_set_t before;
  ASSERT_EQ(sched_getaffinity(0, sizeof(before), &before), 0);
  const int cores = usable_cores();
  RankPool pool(2, [] {});
  for (const int threads : {3, 1, at::get_num_threads()}) {
    at::set_num_threads(threads);
    pool.run([&](int rank) {
      EXPECT_EQ(at::get_num_threads(), std::max(1, cores / 2));
      cpu_set_t mine;
      ASSERT_EQ(sched_getaffinity(0, sizeof(mine), &mine), 0);
      if (rank == 0) {
        EXPECT_TRUE(CPU_EQUAL(&mine, &before));
      } else if (cores >= 2) {
        EXPECT_EQ(CPU_COUNT(&mine), CPU_COUNT(&before) / 2);
      }
    });
    EXPECT_EQ(at::get_num_threads(), threads);
    pool.run([](int) { at::set_num_threads(2); });
    EXPECT_EQ(at::get_num_threads(), threads);
    at::set_num_threads(threads);
    pool.run([](int) {});
    std::thread([&] { EXPECT_EQ(at::get_num_threads(), threads); }).join();
  }
}

}  // namespace
}  // namespace colonnade

// tests/checkpoint/thread_team_test.cpp
#include "colonnade/checkpoint/detail/thread_team.h"

#include "colonnade/core/error.h"
#include "tests/testing/expect.h"

#include <gtest/gtest.h>

#include <atomic>
#include <vector>

namespace colonnade::detail {
namespace {

TEST(ShareWork, CallsEveryIndexOnce) {
  for (const int64_t count : {0, 1, 2, 1000}) {
    for (const int threads : {1, 2, 5}) {
      std::vector<std::atomic<int>> calls(static_cast<size_t>(count));
      share_work(count, threads, [&](int64_t i, int thread) {
        EXPECT_TRUE(0 <= thread && thread < threads);
        ++calls[static_cast<size_t>(i)];
      });
      for (const auto& times : calls) {
        EXPECT_EQ(times, 1);
      }
    }
  }
}

TEST(ShareWork, ThrowsWhatAThreadThrew) {
  for (const int threads : {1, 3}) {
    testing::expect_throw<CheckpointError>(
        [&] {
          share_work(100, threads, [&](int64_t i, int) {
            check<CheckpointError>(i != 40, "index ", i);
          });
        },
        "index 40");
  }
}

}  // namespace
}  // namespace colonnade::detail

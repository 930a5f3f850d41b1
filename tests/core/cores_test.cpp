// tests/core/cores_test.cpp
#include "colonnade/core/cores.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>

#include <thread>

namespace colonnade {
namespace {

TEST(Cores, AreThoseOnWhichTheThreadMayRun) {
  const std::vector<int> cores = allowed_cores();
  ASSERT_FALSE(cores.empty());
  EXPECT_GE(usable_cores(), 1);
  EXPECT_LE(usable_cores(), static_cast<int>(cores.size()));
  std::thread([&] {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<size_t>(cores.back()), &one);
    ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
    EXPECT_THAT(allowed_cores(), testing::ElementsAre(cores.back()));
    EXPECT_EQ(usable_cores(), 1);
  }).join();
}

}  // namespace
}  // namespace colonnade

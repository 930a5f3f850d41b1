// tests/train/schedule_test.cpp
#include "colonnade/train/schedule.h"

#include <gtest/gtest.h>

namespace colonnade {
namespace {

TEST(Schedule, RisesLinearlyThenFallsAlongACosine) {
  const LearningRateSchedule rate{
      .peak = 1.0, .minimum = 0.2, .warmup_steps = 4, .steps = 13};
  EXPECT_DOUBLE_EQ(rate.at(0), 0.25);
  EXPECT_DOUBLE_EQ(rate.at(1), 0.5);
  EXPECT_DOUBLE_EQ(rate.at(3), 1.0);
  EXPECT_DOUBLE_EQ(rate.at(4), 1.0);
  EXPECT_DOUBLE_EQ(rate.at(6), 0.2 + 0.4 * (1 + std::sqrt(0.5)));
  EXPECT_DOUBLE_EQ(rate.at(8), 0.6);
  EXPECT_DOUBLE_EQ(rate.at(12), 0.2);
  EXPECT_DOUBLE_EQ(rate.at(1000), 0.2);
}

TEST(Schedule, NeedsNeitherWarmupNorMoreThanOneStep) {
  const LearningRateSchedule no_warmup{
      .peak = 1.0, .minimum = 0.0, .warmup_steps = 0, .steps = 3};
  EXPECT_DOUBLE_EQ(no_warmup.at(0), 1.0);
  EXPECT_DOUBLE_EQ(no_warmup.at(1), 0.5);
  const LearningRateSchedule one{
      .peak = 1.0, .minimum = 0.5, .warmup_steps = 0, .steps = 1};
  EXPECT_DOUBLE_EQ(one.at(0), 0.5);
  const LearningRateSchedule all_warmup{
      .peak = 1.0, .minimum = 0.5, .warmup_steps = 2, .steps = 2};
  EXPECT_DOUBLE_EQ(all_warmup.at(1), 1.0);
}

}  // namespace
}  // namespace colonnade

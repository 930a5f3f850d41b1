// tests/cli/samples_test.cpp
#include "cli/samples.h"

#include <gtest/gtest.h>

namespace colonnade::cli {
namespace {

TEST(Samples, SpreadIsTheMiddleAndTheTenths) {
  std::vector<double> samples;
  for (int i = 20; i >= 0; --i) {
    samples.push_back(i);
  }
  const Spread spread = spread_of(samples);
  EXPECT_EQ(spread.median, 10);
  EXPECT_EQ(spread.p10, 2);
  EXPECT_EQ(spread.p90, 18);
  const Spread one = spread_of({3.5});
  EXPECT_EQ(one.p10, 3.5);
  EXPECT_EQ(one.p90, 3.5);
}

TEST(Samples, CapacityIsAboveNothing) {
  EXPECT_GT(core_capacity(1), 0);
  EXPECT_GT(core_capacity(2), 0);
}

}  // namespace
}  // namespace colonnade::cli

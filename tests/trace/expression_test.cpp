#include "colonnade/core/error.h"
#include "colonnade/trace/graph.h"
#include "tests/testing/error_of.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>

namespace colonnade::trace {
namespace {

using Rounding = Expression::Rounding;

/// (variable 1) / divisor at `value`.
int64_t divided(int64_t value, int64_t divisor, Rounding rounding) {
  return evaluate({.terms = {{.factor = 1, .variables = {1}}},
                   .divisor = divisor,
                   .rounding = rounding},
                  {1, value});
}

TEST(Expression, RoundsAsItSays) {
  for (int64_t value = -7; value <= 7; ++value) {
    for (int64_t divisor = 1; divisor <= 4; ++divisor) {
      const int64_t floor = divided(value, divisor, Rounding::kFloor);
      EXPECT_LE(floor * divisor, value);
      EXPECT_GT((floor + 1) * divisor, value);
      const int64_t ceil = divided(value, divisor, Rounding::kCeil);
      EXPECT_GE(ceil * divisor, value);
      EXPECT_LT((ceil - 1) * divisor, value);
    }
  }
}

TEST(Expression, DividesTheExtremes) {
  constexpr int64_t kMin = std::numeric_limits<int64_t>::min();
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(divided(kMin, 3, Rounding::kFloor), kMin / 3 - 1);
  EXPECT_EQ(divided(kMin, 3, Rounding::kCeil), kMin / 3);
  EXPECT_EQ(divided(kMax, 2, Rounding::kFloor), kMax / 2);
  EXPECT_EQ(divided(kMax, 2, Rounding::kCeil), kMax / 2 + 1);
}

TEST(Expression, AnExactDivisionLeavesNoRest) {
  EXPECT_EQ(divided(-6, 3, Rounding::kExact), -2);
  EXPECT_EQ(error_of<InvalidArgument>([] { divided(7, 3, Rounding::kExact); }),
            "Expression: 7 does not divide by 3, as it did when the graph was "
            "recorded; give an input of another size");
}

}  // namespace
}  // namespace colonnade::trace

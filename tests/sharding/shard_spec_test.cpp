// tests/sharding/shard_spec_test.cpp
#include "colonnade/sharding/shard_spec.h"

#include "colonnade/core/error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <string>
#include <vector>

namespace colonnade {
namespace {

using testing::ElementsAre;
using testing::StrEq;
using testing::ThrowsMessage;

template <typename F>
void expect_refused(F&& f, const std::string& message) {
  EXPECT_THAT(f, ThrowsMessage<InvalidArgument>(StrEq(message)));
}

TEST(ShardSpec, Even) {
  const ShardSpec spec = ShardSpec::even(1, 12, 2, 4);
  EXPECT_EQ(spec, (ShardSpec{1, 12, {{6, 9}}, 3}));
  EXPECT_EQ(spec.held_size(), 3);
  EXPECT_EQ(spec.padding(), 0);
  EXPECT_EQ(to_string(spec), "dim 1, [6, 9) of 12");
  EXPECT_EQ(ShardSpec::even(0, 0, 1, 2), (ShardSpec{0, 0, {}, 0}));
}

TEST(ShardSpec, PaddedWhereTheLastRanksHoldLess) {
  EXPECT_EQ(ShardSpec::padded(0, 10, 0, 4), (ShardSpec{0, 10, {{0, 3}}, 3}));
  EXPECT_EQ(ShardSpec::padded(0, 10, 3, 4), (ShardSpec{0, 10, {{9, 10}}, 3}));
  EXPECT_EQ(ShardSpec::padded(0, 10, 3, 4).padding(), 2);
  const ShardSpec none = ShardSpec::padded(0, 2, 3, 4);
  EXPECT_EQ(none, (ShardSpec{0, 2, {}, 1}));
  EXPECT_EQ(to_string(none), "dim 0, none of 2, padded to 1");
  EXPECT_EQ(to_string(ShardSpec::padded(0, 10, 3, 4)),
            "dim 0, [9, 10) of 10, padded to 3");
}

TEST(ShardSpec, PaddedIsEvenWhereTheSizeDivides) {
  for (int64_t rank = 0; rank < 4; ++rank) {
    EXPECT_EQ(ShardSpec::padded(1, 12, rank, 4),
              ShardSpec::even(1, 12, rank, 4));
  }
}

TEST(ShardSpec, SegmentsAreSplitEachByItself) {
  const std::array<int64_t, 3> sizes{8, 4, 4};
  EXPECT_EQ(ShardSpec::segments(0, sizes, 1, 2),
            (ShardSpec{0, 16, {{4, 8}, {10, 12}, {14, 16}}, 8}));
  EXPECT_EQ(to_string(ShardSpec::segments(0, sizes, 0, 4)),
            "dim 0, [0, 2) [8, 9) [12, 13) of 16");
}

TEST(ShardSpec, ShapesGoBothWaysWithPaddingInTheShardOnly) {
  const ShardSpec spec = ShardSpec::padded(1, 10, 3, 4);
  EXPECT_THAT(spec.local_shape({5, 10, 2}), ElementsAre(5, 3, 2));
  EXPECT_THAT(spec.whole_shape({5, 3, 2}), ElementsAre(5, 10, 2));
  expect_refused(
      [&] {
        spec.local_shape({5, 12});
      },
      "ShardSpec: whole [5, 12] does not have size 10 at dim 1 (dim 1, [9, 10) "
      "of 10, padded to 3)");
  expect_refused(
      [&] { spec.whole_shape({3}); },
      "ShardSpec: shard [3] does not have size 3 at dim 1 (dim 1, [9, 10) of "
      "10, padded to 3)");
}

TEST(ShardSpec, RefusesASizeThatDoesNotDivide) {
  expect_refused([] { ShardSpec::even(0, 10, 0, 4); },
                 "ShardSpec: whole size 10 does not divide over 4 ranks; pad "
                 "it to 12");
  const std::array<int64_t, 2> sizes{8, 6};
  expect_refused([&] { ShardSpec::segments(0, sizes, 0, 4); },
                 "ShardSpec: segment 6 does not divide over 4 ranks; pad it to "
                 "8");
}

TEST(ShardSpec, RefusesAPlaceThatIsNone) {
  expect_refused([] { ShardSpec::even(-1, 8, 0, 4); },
                 "ShardSpec: dim is -1; count it from the front, from 0");
  expect_refused([] { ShardSpec::padded(0, 8, 4, 4); },
                 "ShardSpec: rank 4 is not one of 4 ranks");
  expect_refused([] { ShardSpec::even(0, 8, 0, 0); },
                 "ShardSpec: rank 0 is not one of 0 ranks");
  expect_refused([] { ShardSpec::padded(0, -8, 0, 4); },
                 "ShardSpec: whole size is -8; it is at least 0");
}

TEST(ShardSpec, ValidateTakesWhatFits) {
  EXPECT_NO_THROW(ShardSpec::even(1, 8, 1, 2).validate({3, 4}, "x"));
  EXPECT_NO_THROW(
      (ShardSpec{0, 9, {{1, 3}, {3, 4}, {8, 9}}, 6}).validate({6, 2}, "x"));
  EXPECT_NO_THROW((ShardSpec{0, 9, {}, 0}).validate({0}, "x"));
}

TEST(ShardSpec, ValidateNamesWhatDoesNotFit) {
  const auto refused = [](const ShardSpec& spec, std::vector<int64_t> shape,
                          const std::string& message) {
    expect_refused([&] { spec.validate(shape, "head.weight"); },
                   "head.weight: " + message);
  };
  refused({2, 8, {{0, 4}}, 4}, {4, 4},
          "dim 2 is not one of the 2 of a shard [4, 4] (dim 2, [0, 4) of 8)");
  refused({0, 8, {{0, 4}}, 4}, {5, 4},
          "shard [5, 4] does not have local_size 4 at dim 0 (dim 0, [0, 4) of "
          "8)");
  refused({0, 8, {{0, 4}}, 3}, {3, 4},
          "ranges hold 4, more than local_size 3 (dim 0, [0, 4) of 8, padded "
          "to 3)");
  const std::string bad =
      " is empty, outside the whole or before the range in front of it ";
  const std::string way_out = "; give ascending ranges that do not overlap";
  refused({0, 8, {{4, 9}}, 5}, {5},
          "range [4, 9)" + bad + "(dim 0, [4, 9) of 8)" + way_out);
  refused({0, 8, {{-1, 2}}, 3}, {3},
          "range [-1, 2)" + bad + "(dim 0, [-1, 2) of 8)" + way_out);
  refused({0, 8, {{2, 2}}, 3}, {3},
          "range [2, 2)" + bad + "(dim 0, [2, 2) of 8, padded to 3)" + way_out);
  refused({0, 8, {{4, 6}, {2, 3}}, 3}, {3},
          "range [2, 3)" + bad + "(dim 0, [4, 6) [2, 3) of 8)" + way_out);
  refused({0, 8, {{0, 4}, {3, 6}}, 7}, {7},
          "range [3, 6)" + bad + "(dim 0, [0, 4) [3, 6) of 8)" + way_out);
}

}  // namespace
}  // namespace colonnade

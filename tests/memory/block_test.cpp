// tests/memory/block_test.cpp
#include "colonnade/memory/detail/block.h"

#include <gtest/gtest.h>

#include <cstddef>

namespace colonnade::detail {
namespace {

TEST(SizeClass, HoldsItsSizesAndWastesAtMostAnEighth) {
  for (size_t bytes = kLargeBytes; bytes < size_t{64} << 20;
       bytes += 1 + bytes / 1000) {
    const size_t held = class_bytes(size_class(bytes));
    ASSERT_GE(held, bytes);
    ASSERT_LE(held - bytes, bytes / 8) << bytes;
    ASSERT_EQ(size_class(held), size_class(bytes)) << bytes;
    ASSERT_EQ(size_class(held + 1), size_class(bytes) + 1) << bytes;
  }
}

TEST(SizeClass, IsExactForPowersOfTwo) {
  for (int exponent = 16; exponent < 48; ++exponent) {
    const size_t bytes = size_t{1} << exponent;
    EXPECT_EQ(class_bytes(size_class(bytes)), bytes);
    EXPECT_LT(size_class(bytes), kSizeClasses);
  }
}

}  // namespace
}  // namespace colonnade::detail

// tests/cli/format_test.cpp
#include "cli/format.h"

#include <gtest/gtest.h>

namespace colonnade::cli {
namespace {

TEST(Format, NumbersHaveCommas) {
  EXPECT_EQ(with_commas(0), "0");
  EXPECT_EQ(with_commas(999), "999");
  EXPECT_EQ(with_commas(1000), "1,000");
  EXPECT_EQ(with_commas(-123456), "-123,456");
  EXPECT_EQ(with_commas(1234567), "1,234,567");
}

TEST(Format, BytesHaveAFittingUnit) {
  EXPECT_EQ(as_bytes(0), "0 B");
  EXPECT_EQ(as_bytes(1023), "1023 B");
  EXPECT_EQ(as_bytes(1536), "1.5 KiB");
  EXPECT_EQ(as_bytes(int64_t{300} << 20), "300 MiB");
  EXPECT_EQ(as_bytes(int64_t{3} << 30), "3.0 GiB");
}

TEST(Format, DurationsReadAsOnAClock) {
  EXPECT_EQ(as_duration(0.4), "0:00");
  EXPECT_EQ(as_duration(65), "1:05");
  EXPECT_EQ(as_duration(7265), "2:01:05");
}

TEST(Format, TimesHaveAFittingUnit) {
  EXPECT_EQ(as_time(2.5), "2.50 s");
  EXPECT_EQ(as_time(0.0123), "12.3 ms");
  EXPECT_EQ(as_time(123e-6), "123 us");
  EXPECT_EQ(as_time(5e-8), "0.05 us");
}

TEST(Format, AlignsAtBothSides) {
  EXPECT_EQ(left_aligned("7", 3), "7  ");
  EXPECT_EQ(left_aligned("1234", 3), "1234");
  EXPECT_EQ(right_aligned("7", 3), "  7");
  EXPECT_EQ(right_aligned("1234", 3), "1234");
}

}  // namespace
}  // namespace colonnade::cli

// tests/core/log_test.cpp
#include "colonnade/core/log.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>

namespace colonnade {
namespace {

TEST(Log, GivesLinesToTheSinkInUse) {
  std::string first;
  std::string second;
  LogSink silent = set_log_sink([&](LogLevel level, std::string_view line) {
    first = line;
    EXPECT_EQ(level, LogLevel::kWarning);
  });
  log(LogLevel::kWarning, "one");
  LogSink previous =
      set_log_sink([&](LogLevel, std::string_view line) { second = line; });
  log(LogLevel::kInfo, "two");
  previous(LogLevel::kWarning, "three");
  set_log_sink(std::move(silent));
  log(LogLevel::kInfo, "dropped");
  EXPECT_EQ(first, "three");
  EXPECT_EQ(second, "two");
}

}  // namespace
}  // namespace colonnade

// tests/main.cpp
#include "tests/testing/run_on_ranks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>

int main(int argc, char** argv) {
  testing::InitGoogleMock(&argc, argv);
  const int failed = RUN_ALL_TESTS();
  if (colonnade::lacks_process_ranks()) {
    std::puts("No test ran on process ranks.");
    return 1;
  }
  return failed;
}

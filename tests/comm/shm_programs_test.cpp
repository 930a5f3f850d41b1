// tests/comm/shm_programs_test.cpp
#include "tests/comm/process_ranks.h"
#include "tests/comm/random_program.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <vector>

namespace colonnade {
namespace {

/// A few, unless COLONNADE_TEST_PROGRAMS says how many.
uint32_t programs_to_run() {
  const char* const number = std::getenv("COLONNADE_TEST_PROGRAMS");
  return number == nullptr ? 500 : static_cast<uint32_t>(std::atoi(number));
}
constexpr size_t kOfAWorld = 1000;

TEST(ShmPrograms, WithoutFaultMatchOneThread) {
  const uint32_t count = programs_to_run();
  std::array<std::vector<Program>, 5> programs;  // by ranks
  for (uint32_t seed = 0; seed < count; ++seed) {
    const Program program = random_program(seed, /*with_fault=*/false);
    programs[static_cast<size_t>(program.ranks)].push_back(program);
  }
  for (size_t ranks = 2; ranks < programs.size(); ++ranks) {
    for (size_t first = 0; first < programs[ranks].size(); first += kOfAWorld) {
      const auto body = [&](World& world) {
        const size_t end = std::min(first + kOfAWorld, programs[ranks].size());
        for (size_t i = first; i < end; ++i) {
          try {
            run_program(programs[ranks][i], world);
          } catch (const std::logic_error& error) {
            ADD_FAILURE() << error.what();
            throw;
          }
        }
      };
      ProcessRanks processes(static_cast<int>(ranks), body);
      EXPECT_THAT(processes.wait(std::chrono::minutes(4)),
                  testing::Each(testing::IsEmpty()));
    }
  }
}

}  // namespace
}  // namespace colonnade

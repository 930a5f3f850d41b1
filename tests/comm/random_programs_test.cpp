// tests/comm/random_programs_test.cpp
#include "colonnade/comm/rank_context.h"
#include "colonnade/core/error.h"
#include "colonnade/launch/launch.h"
#include "tests/comm/random_program.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <regex>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

namespace colonnade {
namespace {

/// The ranks that `text` names: "rank 1", "ranks 0, 2 and 3".
std::set<int> ranks_in(const std::string& text) {
  static const std::regex list("ranks? ([0-9]+((, | and )[0-9]+)*)");
  static const std::regex number("[0-9]+");
  std::set<int> ranks;
  for (std::sregex_iterator i(text.begin(), text.end(), list), end; i != end;
       ++i) {
    const std::string numbers = (*i)[1];
    for (std::sregex_iterator j(numbers.begin(), numbers.end(), number);
         j != end; ++j) {
      ranks.insert(std::stoi(j->str()));
    }
  }
  return ranks;
}

constexpr uint32_t kPrograms = 1000;

/// As this thread's rank.
void run_in(const Program& program) {
  run_program(program, *RankContext::current()->world());
}

TEST(RandomPrograms, WithoutFaultMatchOneThread) {
  for (uint32_t seed = 0; seed < kPrograms; ++seed) {
    const Program program = random_program(seed, /*with_fault=*/false);
    ASSERT_NO_THROW(run_ranks(program.ranks, [&] { run_in(program); }))
        << "seed " << seed;
  }
}

TEST(RandomPrograms, WithOneFaultEndOnEveryRankAndNameIt) {
  using Clock = std::chrono::steady_clock;
  for (uint32_t seed = 0; seed < kPrograms; ++seed) {
    const Program program = random_program(seed, /*with_fault=*/true);
    const auto start = Clock::now();
    std::vector<std::string> errors(static_cast<size_t>(program.ranks));
    try {
      run_ranks(program.ranks, [&](int rank) {
        try {
          run_in(program);
        } catch (const CommError& error) {
          errors[static_cast<size_t>(rank)] = error.what();
          throw;
        }
      });
      ADD_FAILURE() << "seed " << seed << ": no error";
    } catch (const std::out_of_range&) {
      EXPECT_EQ(program.fault, Fault::kThrow) << "seed " << seed;
    } catch (const CommError&) {
      EXPECT_NE(program.fault, Fault::kThrow) << "seed " << seed;
    }
    EXPECT_LT(Clock::now() - start, std::chrono::seconds(2)) << "seed " << seed;
    const bool is_gone =
        program.fault == Fault::kThrow || program.fault == Fault::kReturn;
    for (int rank = 0; rank < program.ranks; ++rank) {
      const std::string& error = errors[static_cast<size_t>(rank)];
      if (is_gone && rank == program.rank_at_fault) {
        EXPECT_EQ(error, "");
        continue;
      }
      EXPECT_EQ(ranks_in(error).count(program.rank_at_fault), 1U)
          << "seed " << seed << ", rank " << rank << ", fault of rank "
          << program.rank_at_fault << ": " << error;
    }
    if (HasFailure()) {
      break;  // one program is enough to look at
    }
  }
}

}  // namespace
}  // namespace colonnade

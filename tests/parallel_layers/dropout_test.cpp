// tests/parallel_layers/dropout_test.cpp
#include "colonnade/parallel_layers/dropout.h"

#include "colonnade/core/error.h"
#include "tests/testing/expect.h"
#include "tests/testing/tensor_parallel.h"

#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>

#include <gtest/gtest.h>

#include <sstream>
#include <vector>

namespace colonnade::parallel_layers {
namespace {

using at::Tensor;
using testing::expect_equal;
using testing::expect_throw;
using testing::run_tensor_parallel;

class DropoutTest : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, DropoutTest, ::testing::Values(2, 4));

TEST_P(DropoutTest, DropsOtherElementsOnEachRankInEachRunAlike) {
  const int ranks = GetParam();
  std::vector<Tensor> first(ranks);
  std::vector<Tensor> second(ranks);
  for (std::vector<Tensor>* run : {&first, &second}) {
    run_tensor_parallel(ranks, [&](const GroupPtr& group) {
      Dropout dropout(0.5);
      (*run)[group->rank()] = dropout(at::ones({256}));
    });
  }
  for (int rank = 0; rank < ranks; ++rank) {
    expect_equal(first[rank], second[rank]);
    EXPECT_GT(first[rank].count_nonzero().item<int64_t>(), 64);
    EXPECT_LT(first[rank].count_nonzero().item<int64_t>(), 192);
    for (int other = 0; other < rank; ++other) {
      EXPECT_FALSE(at::equal(first[rank], first[other]));
    }
  }
}

TEST_P(DropoutTest, LeavesTheReplicatedGeneratorAlone) {
  run_tensor_parallel(GetParam(), [&](const GroupPtr&) {
    const Tensor before = random_state().replicated;
    Dropout(0.5)(at::ones({8}));
    expect_equal(random_state().replicated, before);
  });
}

TEST(Dropout, PassesEverythingInEvaluation) {
  run_tensor_parallel(1, [](const GroupPtr&) {
    Dropout dropout(0.5);
    dropout->eval();
    expect_equal(dropout(at::ones({8})), at::ones({8}));
  });
}

TEST(Dropout, RefusesWhatIsNoProbability) {
  expect_throw<InvalidArgument>(
      [] { Dropout(1.5); },
      "Dropout: p is 1.5; expected a probability in [0, 1]");
}

TEST(Dropout, PrintsItself) {
  std::ostringstream out;
  out << Dropout(0.25);
  EXPECT_EQ(out.str(), "colonnade::parallel_layers::Dropout(p=0.25)");
}

}  // namespace
}  // namespace colonnade::parallel_layers

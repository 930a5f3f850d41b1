// tests/models/sampling_test.cpp
#include "colonnade/models/sampling.h"

#include "colonnade/core/error.h"
#include "tests/testing/expect.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace colonnade {
namespace {

at::Tensor doubles(std::vector<double> values) {
  return at::tensor(values, at::kDouble);
}

TEST(BestToken, IsTheFirstOfTheLargest) {
  const BestToken token = best_token(doubles({1.0, 3.0, 3.0, -2.0}));
  EXPECT_EQ(token.id, 1);
  EXPECT_EQ(token.margin, 0.0);
}

TEST(BestToken, KnowsItsMarginWhereverTheSecondIs) {
  EXPECT_EQ(best_token(doubles({2.5, 1.0, 4.0})).margin, 1.5);
  EXPECT_EQ(best_token(doubles({4.0, 1.0, 2.5})).margin, 1.5);
  EXPECT_EQ(best_token(at::ones({1}, at::kFloat)).margin,
            std::numeric_limits<double>::infinity());
}

TEST(BestToken, RefusesLogitsThatAreNotNumbers) {
  EXPECT_THROW(best_token(doubles({1.0, NAN})), InvalidArgument);
  EXPECT_THROW(best_token(doubles({1.0, INFINITY})), InvalidArgument);
}

TEST(TokenProbabilities, AreTheSoftmaxAtTemperatureOne) {
  const at::Tensor logits = doubles({0.5, -1.0, 2.0, 0.0});
  EXPECT_TRUE(
      token_probabilities(logits, 1.0).allclose(logits.softmax(0), 1e-14));
}

TEST(TokenProbabilities, SharpenAndFlattenWithTemperature) {
  const at::Tensor logits = doubles({0.5, -1.0, 2.0, 0.0});
  EXPECT_TRUE(token_probabilities(logits, 0.25)
                  .allclose((logits * 4).softmax(0), 1e-14));
  EXPECT_TRUE(token_probabilities(logits, 1e9)
                  .allclose(at::full({4}, 0.25, at::kDouble), 1e-8));
  EXPECT_TRUE(
      token_probabilities(logits, 1e-300).equal(doubles({0.0, 0.0, 1.0, 0.0})));
}

TEST(TokenProbabilities, KeepTheKLikeliest) {
  const at::Tensor logits = doubles({3.0, 1.0, 4.0, 2.0}).log();
  EXPECT_TRUE(token_probabilities(logits, 1.0, 2)
                  .allclose(doubles({3.0, 0.0, 4.0, 0.0}) / 7));
  EXPECT_TRUE(
      token_probabilities(logits, 1.0, 1).equal(doubles({0, 0, 1.0, 0})));
  EXPECT_TRUE(token_probabilities(logits, 1.0, 99)
                  .equal(token_probabilities(logits, 1.0)));
  // Exactly k of equals, the first.
  EXPECT_TRUE(token_probabilities(at::zeros({4}), 1.0, 2)
                  .equal(doubles({0.5, 0.5, 0.0, 0.0})));
}

TEST(TokenProbabilities, KeepTheLikeliestThatReachP) {
  const at::Tensor logits = doubles({0.1, 0.2, 0.4, 0.3}).log();
  EXPECT_TRUE(token_probabilities(logits, 1.0, 0, 0.65)
                  .allclose(doubles({0.0, 0.0, 4.0, 3.0}) / 7));
  EXPECT_TRUE(token_probabilities(logits, 1.0, 0, 0.75)
                  .allclose(doubles({0.0, 2.0, 4.0, 3.0}) / 9));
  EXPECT_TRUE(token_probabilities(logits, 1.0, 0, 1e-12)
                  .equal(doubles({0.0, 0.0, 1.0, 0.0})));
  // p counts within the k likeliest: 4/9, 3/9, 2/9.
  EXPECT_TRUE(token_probabilities(logits, 1.0, 3, 0.4)
                  .equal(doubles({0.0, 0.0, 1.0, 0.0})));
}

TEST(TokenProbabilities, RefuseOptionsOutOfRange) {
  const at::Tensor logits = at::zeros({4});
  const auto expect_refusal = [&](double temperature, int64_t top_k,
                                  double top_p, const std::string& text) {
    testing::expect_throw<InvalidArgument>(
        [&] { token_probabilities(logits, temperature, top_k, top_p); }, text);
  };
  expect_refusal(
      -1.0, 0, 1.0,
      "Generate: temperature is -1; give 0 for the likeliest token, or "
      "more to draw");
  expect_refusal(
      1.0, -2, 1.0,
      "Generate: top_k is -2; give how many tokens to draw from, or 0 "
      "for all");
  expect_refusal(1.0, 0, 0.0,
                 "Generate: top_p is 0; give a probability in (0, 1], where 1 "
                 "keeps all tokens");
  expect_refusal(0.0, 0, 1.0, "Generate: no token is drawn at temperature 0");
}

TEST(DrawToken, FollowsTheProbabilities) {
  at::Generator generator = at::detail::createCPUGenerator(3);
  const at::Tensor probabilities = doubles({0.0, 0.5, 0.0, 0.3, 0.2, 0.0});
  std::vector<double> counts(6);
  constexpr int kDraws = 20000;
  for (int draw = 0; draw < kDraws; ++draw) {
    counts[draw_token(probabilities, generator)] += 1.0 / kDraws;
  }
  EXPECT_TRUE(doubles(counts).allclose(probabilities, 0, 0.015));
  EXPECT_EQ(counts[0] + counts[2] + counts[5], 0.0);
}

TEST(DrawToken, TakesALikelyOneWhereRoundingLeavesARest) {
  at::Generator generator = at::detail::createCPUGenerator(3);
  // Far from adding up to 1: most draws run past the end.
  const at::Tensor probabilities = doubles({0.0, 1e-9, 0.0});
  for (int draw = 0; draw < 100; ++draw) {
    EXPECT_EQ(draw_token(probabilities, generator), 1);
  }
}

}  // namespace
}  // namespace colonnade

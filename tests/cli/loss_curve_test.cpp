// tests/cli/loss_curve_test.cpp
#include "cli/loss_curve.h"

#include "tests/testing/temporary_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <sstream>

namespace colonnade::cli {
namespace {

using testing::HasSubstr;
using testing::Not;

LossHistory falling(int64_t steps) {
  LossHistory history;
  for (int64_t step = 1; step <= steps; ++step) {
    const double done = static_cast<double>(step) / static_cast<double>(steps);
    history.add_step(step, 5.5 * std::exp(-done), 1.25, 1e-3);
    if (step % (steps / 2) == 0) {
      history.add_evaluation(step, 5.5 * std::exp(-done) + 0.1);
    }
  }
  return history;
}

std::vector<std::string> lines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    lines.push_back(line);
  }
  return lines;
}

/// Characters of UTF-8.
size_t width(const std::string& text) {
  return static_cast<size_t>(std::count_if(
      text.begin(), text.end(),
      [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

TEST(LossCurve, FallsFromTheUpperLeftToTheLowerRight) {
  const auto picture = lines(draw_for_terminal(falling(400), 60, 10));
  ASSERT_EQ(picture.size(), 12u);
  // Four or so marks at round numbers, the highest at the top.
  EXPECT_THAT(picture[0], HasSubstr("6 \u2524"));
  EXPECT_THAT(picture[9], HasSubstr("2 \u2524"));
  EXPECT_THAT(picture[10], HasSubstr("\u2514\u2500\u2500"));
  EXPECT_THAT(picture[11], HasSubstr("1 "));
  EXPECT_THAT(picture[11], HasSubstr("step 400"));
  for (const std::string& line : picture) {
    EXPECT_LE(width(line), 60u) << line;
  }
  // The line's first dots are high, its last ones low.
  EXPECT_LT(width(picture[1]), width(picture[9]));
}

TEST(LossCurve, MarksEvaluations) {
  const std::string picture = draw_for_terminal(falling(400), 60, 10);
  size_t marks = 0;
  for (size_t at = picture.find("\u25c6"); at != std::string::npos;
       at = picture.find("\u25c6", at + 1)) {
    ++marks;
  }
  EXPECT_EQ(marks, 2u);
}

TEST(LossCurve, TakesAnyRun) {
  EXPECT_EQ(draw_for_terminal(LossHistory(), 60, 10), "");
  LossHistory flat;
  flat.add_step(1, 2.0, 0, 0);
  EXPECT_EQ(draw_for_terminal(flat, 60, 10), "");
  flat.add_step(2, 2.0, 0, 0);
  EXPECT_NE(draw_for_terminal(flat, 60, 10), "");
  EXPECT_EQ(lines(draw_for_terminal(falling(100'000), 5, 3)).size(), 5u);
}

TEST(LossCurve, SvgHasBothLinesAxesAndTwoColourSchemes) {
  const std::string svg = draw_as_svg(falling(5000));
  EXPECT_THAT(svg, testing::StartsWith("<svg xmlns="));
  EXPECT_THAT(svg, testing::EndsWith("</svg>\n"));
  EXPECT_THAT(svg, HasSubstr("prefers-color-scheme: dark"));
  EXPECT_THAT(svg, HasSubstr("<polyline class='training'"));
  EXPECT_THAT(svg, HasSubstr("<title>step 5000: 2.1233</title>"));
  EXPECT_THAT(svg, HasSubstr(">4000</text>"));
  EXPECT_THAT(svg, Not(testing::ContainsRegex("[ ',>]nan")));
  // Thinned out: a picture, not a table.
  EXPECT_LT(svg.size(), 20'000u);
  EXPECT_THAT(draw_as_svg(LossHistory()), HasSubstr("fewer than two steps"));
}

TEST(LossHistory, ComesBackFromItsFile) {
  const TemporaryFolder folder;
  const std::string csv = falling(10).to_csv();
  EXPECT_THAT(
      csv, testing::StartsWith("step,loss,grad_norm,learning_rate,eval_loss\n"
                               "1,4.9766058,1.25,0.001,\n"));
  const auto file = folder.write("loss.csv", csv);
  EXPECT_EQ(LossHistory::read(file, 10).to_csv(), csv);
  const LossHistory half = LossHistory::read(file, 7);
  EXPECT_EQ(half.training().size(), 7u);
  EXPECT_EQ(half.evaluations().size(), 1u);
  EXPECT_TRUE(LossHistory::read(folder.path() / "none", 7).training().empty());
}

}  // namespace
}  // namespace colonnade::cli

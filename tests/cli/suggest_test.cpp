// tests/cli/suggest_test.cpp
#include "cli/suggest.h"

#include <gtest/gtest.h>

namespace colonnade::cli {
namespace {

const std::vector<std::string> kOptions = {"--steps", "--seed", "--seq-len",
                                           "--tp",    "--dp",   "--save-every"};

TEST(Suggest, FindsWhatIsOneTypingErrorAway) {
  EXPECT_EQ(closest("--step", kOptions), "--steps");
  EXPECT_EQ(closest("--stpes", kOptions), "--steps");
  EXPECT_EQ(closest("--stebs", kOptions), "--steps");
  EXPECT_EQ(closest("--sseed", kOptions), "--seed");
  EXPECT_EQ(closest("-seed", kOptions), "--seed");
  EXPECT_EQ(closest("--pt", kOptions), "--tp");
}

TEST(Suggest, LongWordsMayHaveMoreErrors) {
  EXPECT_EQ(closest("--safe_every", kOptions), "--save-every");
}

TEST(Suggest, FindsWhatAWordBegins) {
  EXPECT_EQ(closest("--save", kOptions), "--save-every");
}

TEST(Suggest, KeepsQuietWhereNothingIsClose) {
  EXPECT_EQ(closest("--colour", kOptions), std::nullopt);
  EXPECT_EQ(closest("--", kOptions), std::nullopt);
  EXPECT_EQ(closest("x", {}), std::nullopt);
}

}  // namespace
}  // namespace colonnade::cli

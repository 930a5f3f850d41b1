// tests/trace/fuzz/replay_test.cpp
// A short run of the fuzzer without libFuzzer: the same in every build.
#include "tests/trace/fuzz/graph_reader_fuzz.h"
#include "tests/trace/fuzz/json_mutator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace colonnade::testing {
namespace {

std::vector<std::string> seeds() {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry :
       std::filesystem::directory_iterator(COLONNADE_FUZZ_SEEDS)) {
    paths.push_back(entry.path());
  }
  std::ranges::sort(paths);
  std::vector<std::string> texts;
  for (const auto& path : paths) {
    std::ifstream file(path);
    texts.push_back(with_running_schemas(
        std::string(std::istreambuf_iterator<char>(file), {})));
  }
  return texts;
}

TEST(GraphReaderFuzz, SeedsAreGoodGraphs) {
  const std::vector<std::string> texts = seeds();
  EXPECT_GE(texts.size(), 4U);
  for (const std::string& text : texts) {
    EXPECT_TRUE(use_graph_text(text)) << text;
  }
}

TEST(GraphReaderFuzz, MutationsAreRefusedOrUsed) {
  constexpr uint64_t kMutations = 500;  // of each seed
  constexpr uint64_t kSteps = 3;        // changes upon changes
  size_t good = 0;
  size_t refused = 0;
  uint64_t number = 0;
  for (const std::string& seed : seeds()) {
    for (uint64_t i = 0; i < kMutations; ++i) {
      std::string text = seed;
      for (uint64_t step = 0; step < kSteps; ++step) {
        text = mutate_graph_text(text, ++number);
        ++(use_graph_text(text) ? good : refused);
      }
    }
  }
  // The mutations are neither all too wild nor all too tame.
  EXPECT_GT(good, number / 50);
  EXPECT_GT(refused, number / 2);
}

}  // namespace
}  // namespace colonnade::testing

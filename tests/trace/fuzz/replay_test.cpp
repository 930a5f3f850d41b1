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

const std::filesystem::path kRoot = COLONNADE_SOURCE_DIR;

std::string contents(const std::filesystem::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<std::string> seeds() {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry :
       std::filesystem::directory_iterator(kRoot / "tests/trace/fuzz/seeds")) {
    paths.push_back(entry.path());
  }
  std::ranges::sort(paths);
  std::vector<std::string> texts;
  for (const auto& path : paths) {
    texts.push_back(with_running_schemas(contents(path)));
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
  constexpr uint64_t kMutations = 300;  // of each seed
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

TEST(GraphReaderFuzz, TheExampleOfTheDocumentIsAGoodGraph) {
  const std::string document = contents(kRoot / "docs/trace_format.md");
  const size_t begin = document.find("```\n{") + 4;
  const std::string text =
      document.substr(begin, document.find("```", begin) - begin);
  EXPECT_TRUE(use_graph_text(with_running_schemas(text))) << text;
}

}  // namespace
}  // namespace colonnade::testing

// tests/models/generate_test.cpp
#include "colonnade/models/generate.h"

#include "colonnade/core/error.h"
#include "colonnade/models/sampling.h"
#include "colonnade/parallel_state/parallel_state.h"
#include "tests/models/model_ranks.h"
#include "tests/testing/expect.h"

#include <ATen/ATen.h>

#include <gtest/gtest.h>

namespace colonnade {
namespace {

using testing::run_model_ranks;
using testing::tiny_options;

const std::vector<int64_t> kPrompt{3, 14, 15, 9, 2};

std::vector<int64_t> ids_of(const std::vector<GeneratedToken>& tokens) {
  std::vector<int64_t> ids;
  for (const GeneratedToken& token : tokens) {
    ids.push_back(token.id);
  }
  return ids;
}

/// The text that rank 0 of `tp` gets; expects all ranks to get it.
std::vector<GeneratedToken> text_at(int64_t tp, const LlamaOptions& model,
                                    const GenerateOptions& options) {
  std::vector<std::vector<GeneratedToken>> texts(tp);
  run_model_ranks(tp, [&] {
    Llama llama(model);
    texts[parallel_state::get_tensor_model_parallel_rank()] =
        generate(llama, kPrompt, options);
  });
  for (const auto& text : texts) {
    EXPECT_EQ(ids_of(text), ids_of(texts[0]));
  }
  return texts[0];
}

TEST(Generate, GreedyTextIsTheSameAtEveryDegreeAndWithoutACache) {
  const LlamaOptions options = tiny_options().num_kv_heads(2);
  std::vector<int64_t> want = kPrompt;
  std::vector<double> margins;
  run_model_ranks(1, [&] {
    Llama model(options);
    const at::NoGradGuard no_grad;
    for (int i = 0; i < 12; ++i) {
      const BestToken token =
          best_token(model(at::tensor(want).unsqueeze(0))[0][-1]);
      want.push_back(token.id);
      margins.push_back(token.margin);
    }
  });
  want.erase(want.begin(), want.begin() + kPrompt.size());
  for (const int64_t tp : {1, 2, 4}) {
    const auto got = text_at(tp, options, {.max_new_tokens = 12});
    ASSERT_EQ(ids_of(got), want) << "at degree " << tp;
    for (size_t i = 0; i < got.size(); ++i) {
      EXPECT_NEAR(got[i].margin, margins[i], 1e-9);
    }
  }
}

TEST(Generate, DrawsTheSameTextAtEveryDegreeFromOneSeed) {
  const GenerateOptions options{.max_new_tokens = 15,
                                .temperature = 1.0,
                                .top_k = 20,
                                .top_p = 0.9,
                                .seed = 5};
  const auto want = ids_of(text_at(1, tiny_options(), options));
  EXPECT_EQ(ids_of(text_at(2, tiny_options(), options)), want);
  GenerateOptions other = options;
  other.seed = 6;
  EXPECT_NE(ids_of(text_at(1, tiny_options(), other)), want);
}

TEST(Generate, GoesOnFromTheLastHalfOfAFullWindow) {
  const LlamaOptions options = tiny_options().max_positions(8);
  const auto got = ids_of(text_at(2, options, {.max_new_tokens = 10}));
  ASSERT_EQ(got.size(), 10U);
  run_model_ranks(1, [&] {
    Llama model(options);
    const at::NoGradGuard no_grad;
    std::vector<int64_t> text = kPrompt;
    size_t begin = 0;
    for (const int64_t id : got) {
      const std::vector<int64_t> window(text.begin() + begin, text.end());
      EXPECT_EQ(best_token(model(at::tensor(window).unsqueeze(0))[0][-1]).id,
                id);
      text.push_back(id);
      if (window.size() == 8) {
        begin = text.size() - 4;
      }
    }
  });
}

TEST(Generate, EndsOnAllRanksWhenOneRanksCallbackSaysSo) {
  run_model_ranks(2, [] {
    Llama model(tiny_options());
    std::vector<int64_t> seen;
    OnToken on_token;
    if (parallel_state::get_tensor_model_parallel_rank() == 1) {
      on_token = [&](const GeneratedToken& token) {
        seen.push_back(token.id);
        return seen.size() < 4;
      };
    }
    const auto made =
        generate(model, kPrompt, {.max_new_tokens = 10}, on_token);
    EXPECT_EQ(made.size(), 4U);
    if (on_token) {
      EXPECT_EQ(seen, ids_of(made));
    }
  });
}

TEST(Generate, RunsASequenceParallelModelOnWholeSequences) {
  run_model_ranks(2, [] {
    Llama model(tiny_options().sequence_parallel(true));
    EXPECT_EQ(generate(model, kPrompt, {.max_new_tokens = 3}).size(), 3U);
    EXPECT_TRUE(model->options().sequence_parallel());
  });
}

TEST(Generate, RefusesAnEmptyPromptAndBadOptions) {
  run_model_ranks(1, [] {
    Llama model(tiny_options().num_layers(1));
    const auto expect_refusal = [&](const std::vector<int64_t>& prompt,
                                    const GenerateOptions& options,
                                    const std::string& text) {
      testing::expect_throw<InvalidArgument>(
          [&] { generate(model, prompt, options); }, text);
    };
    expect_refusal({}, {},
                   "Generate: the prompt is empty; give at least one token");
    expect_refusal(kPrompt, {.max_new_tokens = -1},
                   "Generate: max_new_tokens is -1; it cannot be negative");
    expect_refusal(
        kPrompt, {.top_p = 2.0},
        "Generate: top_p is 2; give a probability in (0, 1], where 1 "
        "keeps all tokens");
    EXPECT_TRUE(generate(model, kPrompt, {.max_new_tokens = 0}).empty());
  });
}

}  // namespace
}  // namespace colonnade

// tests/trace/traced_llama_test.cpp
// The Llama, traced: whole sequences, and token by token with its cache.
#include "colonnade/launch/launch.h"
#include "colonnade/models/cached_llama.h"
#include "colonnade/models/generate.h"
#include "colonnade/models/llama.h"
#include "colonnade/parallel_state/parallel_state.h"
#include "colonnade/random/generators.h"
#include "colonnade/trace/parallel_model_trace.h"
#include "tests/testing/expect.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/tensor.h>

#include <gtest/gtest.h>

#include <string>
#include <tuple>
#include <vector>

namespace colonnade::trace {
namespace {

namespace ps = parallel_state;
using at::Tensor;
using colonnade::testing::expect_close;
using colonnade::testing::expect_equal;

constexpr int64_t kVocabulary = 61;  // divides over no number of ranks

LlamaOptions tiny() {
  return LlamaOptions(kVocabulary)
      .hidden_size(24)
      .intermediate_size(37)
      .num_layers(2)
      .num_heads(4)
      .num_kv_heads(2)
      .max_positions(256);
}

Llama make_llama(const LlamaOptions& options) {
  manual_seed(11);
  return Llama(options);
}

Tensor eager(const LlamaOptions& options, int degree, const Tensor& ids) {
  Tensor output;
  run_ranks(degree, [&](int rank) {
    ps::initialize_model_parallel(degree);
    Llama model = make_llama(options);
    model->eval();
    const c10::InferenceMode inference;
    const Tensor logits = model->forward(ids);
    if (rank == 0) {
      output = logits;
    }
  });
  return output;
}

struct Case {
  int degree;
  bool sequence_parallel;
  bool tied;
  at::ScalarType dtype;
};

class TracedLlama : public ::testing::TestWithParam<Case> {
 protected:
  LlamaOptions options() const {
    return tiny()
        .sequence_parallel(GetParam().sequence_parallel)
        .tie_embeddings(GetParam().tied)
        .dtype(GetParam().dtype);
  }
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const int degree : {1, 2, 4}) {
    for (const bool sequence_parallel : {false, true}) {
      all.push_back({degree, sequence_parallel, false, at::kFloat});
      all.push_back({degree, sequence_parallel, true, at::kBFloat16});
    }
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Cases, TracedLlama, ::testing::ValuesIn(cases()),
                         [](const auto& instance) {
                           const Case& c = instance.param;
                           return std::to_string(c.degree) +
                                  (c.sequence_parallel ? "Sequence" : "") +
                                  (c.tied ? "Tied" : "") +
                                  c10::toString(c.dtype);
                         });

TEST_P(TracedLlama, EqualsEagerAtSizesNeverTraced) {
  const Tensor example = at::arange(16).remainder(kVocabulary).view({2, 8});
  TraceOptions exact;
  exact.optimize = false;
  TensorParallelModel model =
      parallel_model_trace([this] { return make_llama(options()); }, {example},
                           GetParam().degree, exact);
  EXPECT_FALSE(model.graph().fixed.has_value()) << *model.graph().fixed;
  model.compare_ranks();
  const Tensor ids = at::randint(0, kVocabulary, {3, 20});
  const Tensor want = eager(options(), GetParam().degree, ids);
  expect_equal(model(ids), want);
  TensorParallelModel optimized = parallel_model_trace(
      [this] { return make_llama(options()); }, {example}, GetParam().degree);
  expect_close(optimized(ids), want,
               GetParam().dtype == at::kFloat ? 1e-5 : 3e-2);
}

class TracedDecoding : public ::testing::TestWithParam<int> {};

INSTANTIATE_TEST_SUITE_P(Ranks, TracedDecoding, ::testing::Values(1, 2, 4));

/// What generate() writes, greedily.
std::vector<int64_t> eager_text(int degree, const std::vector<int64_t>& prompt,
                                int64_t count) {
  std::vector<int64_t> text;
  run_ranks(degree, [&](int rank) {
    ps::initialize_model_parallel(degree);
    Llama model = make_llama(tiny());
    GenerateOptions options;
    options.max_new_tokens = count;
    const auto tokens = generate(model, prompt, options);
    if (rank == 0) {
      for (const GeneratedToken& token : tokens) {
        text.push_back(token.id);
      }
    }
  });
  return text;
}

/// A text that a session writes, token by token.
class Writer {
 public:
  Writer(TensorParallelModel model, const std::vector<int64_t>& prompt)
      : model_(std::move(model)), next_(at::tensor(prompt).unsqueeze(0)) {}

  void step() {
    const int64_t id = model_(next_).argmax(-1).item<int64_t>();
    text.push_back(id);
    next_ = at::tensor({id}).unsqueeze(0);
  }

  std::vector<int64_t> text;

 private:
  TensorParallelModel model_;
  Tensor next_;
};

TEST_P(TracedDecoding, WritesWhatGenerateWrites) {
  constexpr int64_t kTokens = 200;
  TraceOptions options;
  options.optimize = false;
  TensorParallelModel model = parallel_model_trace(
      [] {
        manual_seed(11);
        return CachedLlama(tiny(), /*batch=*/1, /*max_length=*/256);
      },
      {at::arange(8).view({1, 8})}, GetParam(), options);
  EXPECT_FALSE(model.graph().fixed.has_value()) << *model.graph().fixed;
  const std::vector<int64_t> first{3, 1, 4, 1, 5};
  const std::vector<int64_t> second{2, 7, 1, 8, 2, 8, 1, 8};
  Writer one(model, first);
  Writer two(model.new_session(), second);
  for (int64_t i = 0; i < kTokens; ++i) {
    one.step();
    two.step();
  }
  EXPECT_EQ(one.text, eager_text(GetParam(), first, kTokens));
  EXPECT_EQ(two.text, eager_text(GetParam(), second, kTokens));
}

}  // namespace
}  // namespace colonnade::trace

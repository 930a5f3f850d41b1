// tests/models/llama_test.cpp
#include "colonnade/models/llama.h"

#include "colonnade/core/error.h"
#include "colonnade/random/generators.h"
#include "tests/models/dense_llama.h"
#include "tests/models/model_ranks.h"
#include "tests/testing/expect.h"

#include <ATen/ATen.h>

#include <gtest/gtest.h>

namespace colonnade {
namespace {

using testing::DenseLlama;
using testing::expect_close;
using testing::expect_equal;
using testing::expect_throw;
using testing::run_model_ranks;
using testing::some_ids;
using testing::tiny_options;
using testing::Weights;

std::string describe(const LlamaOptions& options) {
  return concat("kv heads ", options.num_kv_heads(), ", tied ",
                options.tie_embeddings(), ", sequence parallel ",
                options.sequence_parallel());
}

std::vector<LlamaOptions> all_kinds() {
  std::vector<LlamaOptions> kinds;
  for (const int64_t kv_heads : {12, 6, 2, 1}) {
    for (const bool tied : {false, true}) {
      for (const bool sequence_parallel : {false, true}) {
        kinds.push_back(tiny_options()
                            .num_kv_heads(kv_heads)
                            .tie_embeddings(tied)
                            .sequence_parallel(sequence_parallel));
      }
    }
  }
  return kinds;
}

class LlamaTest : public ::testing::TestWithParam<int> {};

TEST_P(LlamaTest, LossAndEveryGradientMatchDense) {
  run_model_ranks(GetParam(), [] {
    const at::Tensor ids = some_ids(2, 12);
    at::Tensor targets = some_ids(2, 12, 29, /*seed=*/2);
    targets[1][3] = -100;
    for (const LlamaOptions& options : all_kinds()) {
      SCOPED_TRACE(describe(options));
      Llama model(options);
      const at::Tensor loss = model->loss(ids, targets);
      loss.backward();
      const DenseLlama dense(options, testing::whole_weights(model));
      const at::Tensor want = dense.loss(ids, targets);
      want.backward();
      expect_close(loss, want, 1e-9, "loss");
      const Weights gradients = testing::whole_gradients(model);
      ASSERT_EQ(gradients.size(), dense.weights.size());
      for (const auto& [name, weight] : dense.weights) {
        expect_close(gradients.at(name), weight.grad(), 1e-9, name);
      }
    }
  });
}

TEST_P(LlamaTest, LogitsMatchDense) {
  run_model_ranks(GetParam(), [] {
    const at::Tensor ids = some_ids(3, 12);
    for (const LlamaOptions& options : all_kinds()) {
      Llama model(options);
      const DenseLlama dense(options, testing::whole_weights(model));
      expect_close(model(ids), dense.logits(ids), 1e-9, describe(options));
      const at::NoGradGuard no_grad;
      expect_close(model(ids), dense.logits(ids), 1e-9, describe(options));
    }
  });
}

TEST_P(LlamaTest, StartsFromTheSameBitsAsOnOneRank) {
  for (const LlamaOptions& options :
       {tiny_options().num_kv_heads(2), tiny_options().tie_embeddings(true),
        tiny_options().dtype(at::kFloat)}) {
    Weights want;
    run_model_ranks(1, [&] { want = testing::whole_weights(Llama(options)); });
    run_model_ranks(GetParam(), [&] {
      const Weights got = testing::whole_weights(Llama(options));
      ASSERT_EQ(got.size(), want.size());
      for (const auto& [name, weight] : want) {
        expect_equal(got.at(name), weight, name);
      }
    });
  }
}

TEST_P(LlamaTest, CachedStepsGiveTheLogitsOfTheWholeSequence) {
  run_model_ranks(GetParam(), [] {
    const at::Tensor ids = some_ids(2, 12);
    for (const int64_t kv_heads : {12, 2, 1}) {
      Llama model(tiny_options().num_kv_heads(kv_heads));
      const at::NoGradGuard no_grad;
      const at::Tensor want = model(ids);
      KvCache cache(model->options(), 2, 12);
      // Prefill, two positions at once after a past, then one by one.
      std::vector<at::Tensor> got{model->logits(ids.narrow(1, 0, 5), cache),
                                  model->logits(ids.narrow(1, 5, 2), cache)};
      for (int64_t position = 7; position < 12; ++position) {
        got.push_back(
            model->next_logits(ids.narrow(1, position, 1), cache).unsqueeze(1));
      }
      expect_close(at::cat(got, 1), want, 1e-10, concat("kv heads ", kv_heads));
      EXPECT_EQ(cache->length(), 12);
      cache->clear();
      expect_close(model->logits(ids, cache), want, 1e-10, "after clear");
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Degrees, LlamaTest, ::testing::Values(1, 2, 3, 4));

TEST(Llama, NamesItsParametersAsHuggingFaceDoes) {
  run_model_ranks(1, [] {
    std::vector<std::string> names;
    const Llama untied(tiny_options().num_layers(1));
    for (const auto& item : untied->named_parameters()) {
      names.push_back(item.key());
    }
    std::sort(names.begin(), names.end());
    const std::vector<std::string> want{
        "lm_head.weight",
        "model.embed_tokens.weight",
        "model.layers.0.input_layernorm.weight",
        "model.layers.0.mlp.down_proj.weight",
        "model.layers.0.mlp.gate_proj.weight",
        "model.layers.0.mlp.up_proj.weight",
        "model.layers.0.post_attention_layernorm.weight",
        "model.layers.0.self_attn.k_proj.weight",
        "model.layers.0.self_attn.o_proj.weight",
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.0.self_attn.v_proj.weight",
        "model.norm.weight",
    };
    EXPECT_EQ(names, want);
    const Llama tied(tiny_options().num_layers(1).tie_embeddings(true));
    EXPECT_EQ(tied->parameters().size(), want.size() - 1);
  });
}

TEST(Llama, RefusesHeadsThatDoNotDivideBeforeItDraws) {
  run_model_ranks(2, [] {
    const at::Tensor before = random_state().replicated;
    expect_throw<InvalidArgument>(
        [] { Llama model(tiny_options().num_heads(3)); },
        "Llama: num_heads 3 does not divide over 2 tensor-parallel "
        "ranks; start a number of ranks that divides it");
    expect_equal(random_state().replicated, before);
  });
}

TEST(Llama, RefusesSequencesThatDoNotFit) {
  run_model_ranks(2, [] {
    Llama model(tiny_options().num_layers(1).sequence_parallel(true));
    expect_throw<InvalidArgument>(
        [&] { model(some_ids(1, 5)); },
        "Llama: a sequence of 5 does not divide over 2 "
        "sequence-parallel ranks; cut or pad it to a multiple, or turn "
        "sequence_parallel off");
    expect_throw<InvalidArgument>(
        [&] { model(some_ids(1, 26)); },
        "Llama: a sequence of 26 is longer than max_positions 24; cut "
        "it, or build the model with more");
    expect_throw<InvalidArgument>(
        [&] { model(some_ids(1, 6)[0]); },
        "Llama: ids have shape [6]; give [batch, seq]");
    expect_throw<InvalidArgument>(
        [&] { model->loss(some_ids(1, 6), some_ids(1, 4)); },
        "Llama: targets of shape [1, 4] do not fit ids of shape [1, 6]; "
        "each id needs the one that follows it");
    KvCache cache(model->options(), 1, 8);
    expect_throw<InvalidArgument>(
        [&] { model->logits(some_ids(1, 6), cache); },
        "Llama: a cache takes whole sequences, but the model is "
        "sequence-parallel; call set_sequence_parallel(false) first");
    model->set_sequence_parallel(false);
    model->logits(some_ids(1, 6), cache);
    expect_throw<InvalidArgument>(
        [&] { model->logits(some_ids(1, 3), cache); },
        "KvCache: 3 positions after 6 are more than max_length 8; make "
        "a longer cache or clear() it");
    expect_throw<InvalidArgument>(
        [&] { model->logits(some_ids(2, 1), cache); },
        "KvCache: 2 sequences do not fit a cache made for 1; make one "
        "of that size");
  });
}

TEST(Llama, LeavesIgnoredTargetsOutOfTheMean) {
  run_model_ranks(2, [] {
    Llama model(tiny_options());
    const at::Tensor ids = some_ids(1, 6);
    const at::Tensor cut =
        model->loss(ids.narrow(1, 0, 4), some_ids(1, 4, 29, /*seed=*/2));
    at::Tensor targets = at::full({1, 6}, -100, at::kLong);
    targets.narrow(1, 0, 4).copy_(some_ids(1, 4, 29, /*seed=*/2));
    expect_close(model->loss(ids, targets), cut, 1e-12, "loss");
    targets.fill_(-100);
    EXPECT_EQ(model->loss(ids, targets).item<double>(), 0.0);
  });
}

TEST(LlamaOptions, SurviveAStateDict) {
  const LlamaOptions options = tiny_options()
                                   .num_kv_heads(3)
                                   .rope_theta(500000)
                                   .norm_eps(1e-6)
                                   .tie_embeddings(true)
                                   .dtype(at::kBFloat16);
  const LlamaOptions again = LlamaOptions::from_state(options.to_state());
  EXPECT_EQ(again.vocab_size(), 29);
  EXPECT_EQ(again.hidden_size(), 16);
  EXPECT_EQ(again.intermediate_size(), 22);
  EXPECT_EQ(again.num_layers(), 2);
  EXPECT_EQ(again.num_heads(), 12);
  EXPECT_EQ(again.num_kv_heads(), 3);
  EXPECT_EQ(again.head_dim(), 4);
  EXPECT_EQ(again.rope_theta(), 500000);
  EXPECT_EQ(again.norm_eps(), 1e-6);
  EXPECT_EQ(again.max_positions(), 24);
  EXPECT_TRUE(again.tie_embeddings());
  EXPECT_EQ(again.init_std(), 0.3);
  EXPECT_EQ(again.dtype(), at::kBFloat16);
}

TEST(LlamaOptions, RefuseWhatMakesNoModel) {
  expect_throw<InvalidArgument>(
      [] { tiny_options().num_kv_heads(5).resolved(1); },
      "Llama: num_heads 12 is no multiple of num_kv_heads 5; each key "
      "head must serve as many query heads");
  expect_throw<InvalidArgument>(
      [] { tiny_options().head_dim(0).resolved(1); },
      "Llama: hidden_size 16 is no multiple of num_heads 12; change "
      "one, or give head_dim");
  expect_throw<InvalidArgument>(
      [] { tiny_options().head_dim(5).resolved(1); },
      "Llama: head_dim 5 is odd; the rotary embedding turns pairs, so "
      "make it even");
  expect_throw<InvalidArgument>(
      [] { tiny_options().num_layers(0).resolved(1); },
      "Llama: num_layers is 0; it must be positive");
  expect_throw<InvalidArgument>(
      [] { tiny_options().dtype(at::kInt).resolved(1); },
      "Llama: dtype Int is none of float32, float64, bfloat16, float16");
}

}  // namespace
}  // namespace colonnade

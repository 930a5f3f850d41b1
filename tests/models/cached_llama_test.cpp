// tests/models/cached_llama_test.cpp
#include "colonnade/models/cached_llama.h"

#include "colonnade/core/error.h"
#include "colonnade/parallel_layers/save_load.h"
#include "tests/models/model_ranks.h"
#include "tests/testing/expect.h"
#include "tests/testing/temporary_folder.h"

#include <ATen/ATen.h>

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace colonnade {
namespace {

using testing::expect_close;
using testing::expect_equal;
using testing::expect_throw;
using testing::run_model_ranks;
using testing::some_ids;
using testing::tiny_options;

class CachedLlamaTest : public ::testing::TestWithParam<int> {};

TEST_P(CachedLlamaTest, DecodesAsTheWholeForwardDoes) {
  run_model_ranks(GetParam(), [] {
    const at::Tensor ids = some_ids(2, 12);
    // Key heads that divide over the ranks, that are fewer, and uneven at 4.
    for (const int64_t kv_heads : {12, 6, 2, 1}) {
      CachedLlama model(tiny_options().num_kv_heads(kv_heads), 2, 12);
      const at::NoGradGuard no_grad;
      const at::Tensor want = model->llama(ids);
      int64_t past = 0;
      for (const int64_t seq : {5, 2, 1, 1, 3}) {
        const at::Tensor got = model(ids.narrow(1, past, seq));
        past += seq;
        expect_close(got, want.select(1, past - 1), 1e-10,
                     concat(kv_heads, " key heads, position ", past));
        EXPECT_EQ(model->cache->length(), past);
      }
    }
  });
}

TEST_P(CachedLlamaTest, GoesOnFromASavedCache) {
  const TemporaryFolder folder;
  run_model_ranks(GetParam(), [&] {
    const at::Tensor ids = some_ids(2, 12);
    const LlamaOptions options = tiny_options().num_kv_heads(2);
    CachedLlama model(options, 2, 12);
    const at::NoGradGuard no_grad;
    model(ids.narrow(1, 0, 5));
    StateDict state;
    state["model"] = state_dict(*model);
    parallel_layers::save(state, folder.path());
    const at::Tensor want = model(ids.narrow(1, 5, 2));

    CachedLlama again(options, 2, 12);
    for (const at::Tensor& parameter : again->parameters()) {
      parameter.zero_();
    }
    parallel_layers::load(folder.path(), *again);
    EXPECT_EQ(again->cache->length(), 5);
    expect_equal(again(ids.narrow(1, 5, 2)), want);
  });
}

INSTANTIATE_TEST_SUITE_P(Degrees, CachedLlamaTest,
                         ::testing::Values(1, 2, 3, 4));

TEST(CachedLlama, HasTheLlamasNamesAndTakesItsCheckpoint) {
  const TemporaryFolder folder;
  for (const bool tied : {false, true}) {
    run_model_ranks(2, [&] {
      const LlamaOptions options =
          tiny_options().num_kv_heads(2).tie_embeddings(tied);
      Llama trained(options);
      StateDict state;
      state["model"] = state_dict(*trained);
      parallel_layers::save(state, folder.path());

      CachedLlama model(options, 1, 8);
      std::set<std::string> names, want;
      for (const auto& item : model->named_parameters()) {
        names.insert(item.key());
      }
      for (const auto& item : trained->named_parameters()) {
        want.insert(item.key());
      }
      EXPECT_EQ(names, want);
      EXPECT_TRUE(model->named_buffers().contains("cache.values_1"));
      EXPECT_TRUE(model->named_buffers().contains("cache.length"));

      parallel_layers::load(folder.path(), *model->llama);
      const at::NoGradGuard no_grad;
      const at::Tensor ids = some_ids(1, 6);
      expect_close(model(ids), trained(ids).select(1, -1));
      expect_close(CachedLlama(trained, 1, 8)(ids), trained(ids).select(1, -1));
    });
  }
}

TEST(CachedLlama, RefusesIdsThatDoNotFitAndStaysAsItWas) {
  run_model_ranks(2, [] {
    CachedLlama model(tiny_options(), 1, 8);
    model(some_ids(1, 6));
    const at::Tensor keys = model->named_buffers()["cache.keys_0"].clone();
    expect_throw<InvalidArgument>(
        [&] { model(some_ids(1, 3)); },
        "KvCache: 3 positions after 6 are more than max_length 8; make a "
        "longer cache or clear() it");
    expect_throw<InvalidArgument>(
        [&] { model(some_ids(2, 1)); },
        "KvCache: 2 sequences do not fit a cache made for 1; make one of that "
        "size");
    model->llama->set_sequence_parallel(true);
    expect_throw<InvalidArgument>(
        [&] { model(some_ids(1, 2)); },
        "Llama: a cache takes whole sequences, but the model is "
        "sequence-parallel; call set_sequence_parallel(false) first");
    EXPECT_EQ(model->cache->length(), 6);
    expect_equal(model->named_buffers()["cache.keys_0"], keys);
  });
}

}  // namespace
}  // namespace colonnade

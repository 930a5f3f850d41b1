// tests/models/kv_cache_test.cpp
#include "colonnade/models/kv_cache.h"

#include "colonnade/core/error.h"
#include "colonnade/parallel_state/parallel_state.h"
#include "colonnade/sharding/attributes.h"
#include "tests/models/model_ranks.h"
#include "tests/testing/expect.h"

#include <ATen/ATen.h>

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace colonnade {
namespace {

using testing::expect_throw;
using testing::run_model_ranks;
using testing::tiny_options;

TEST(KvCache, KeepsEverythingInNamedBuffers) {
  run_model_ranks(1, [] {
    const KvCache cache(tiny_options().num_kv_heads(3), 2, 10);
    std::vector<std::string> names;
    for (const auto& item : cache->named_buffers()) {
      names.push_back(item.key());
    }
    EXPECT_EQ(names, (std::vector<std::string>{"keys_0", "values_0", "keys_1",
                                               "values_1", "length"}));
    const at::Tensor keys = cache->named_buffers()["keys_1"];
    EXPECT_EQ(keys.sizes(), (at::IntArrayRef{2, 3, 10, 4}));
    EXPECT_EQ(keys.scalar_type(), at::kDouble);
    EXPECT_TRUE(cache->parameters().empty());
    EXPECT_EQ(cache->max_length(), 10);
  });
}

TEST(KvCache, CountsInItsLengthBuffer) {
  run_model_ranks(1, [] {
    KvCache cache(tiny_options(), 1, 10);
    const at::Tensor length = cache->named_buffers()["length"];
    EXPECT_EQ(cache->length(), 0);
    cache->advance(3);
    cache->advance(1);
    EXPECT_EQ(cache->length(), 4);
    EXPECT_EQ(length.item<int64_t>(), 4);
    length.fill_(7);
    EXPECT_EQ(cache->length(), 7);
    cache->clear();
    EXPECT_EQ(length.item<int64_t>(), 0);
  });
}

/// What rank by rank `tp` ranks hold of `kv_heads` key heads, of 12 query
/// heads; none where a cache has no attributes.
std::vector<std::string> held(int64_t kv_heads, int64_t tp) {
  std::vector<std::string> texts(tp);
  run_model_ranks(tp, [&] {
    const KvCache cache(tiny_options().num_kv_heads(kv_heads), 2, 10);
    std::string& text = texts[parallel_state::get_tensor_model_parallel_rank()];
    for (const auto& item : cache->named_buffers()) {
      const auto attributes = get_tensor_parallel_attributes(item.value());
      if (item.key() == "length") {
        EXPECT_FALSE(attributes.has_value());
        continue;
      }
      text = attributes ? to_string(attributes->spec) : "none";
      if (attributes) {
        EXPECT_EQ(attributes->group, "tp");
        attributes->spec.validate(item.value().sizes(), item.key());
      }
    }
  });
  return texts;
}

TEST(KvCache, IsAShardOfAllKeyHeads) {
  using Texts = std::vector<std::string>;
  EXPECT_EQ(held(4, 1), (Texts{"dim 1, [0, 4) of 4"}));
  EXPECT_EQ(held(4, 2), (Texts{"dim 1, [0, 2) of 4", "dim 1, [2, 4) of 4"}));
  EXPECT_EQ(held(2, 4), (Texts{"dim 1, [0, 1) of 2", "dim 1, [0, 1) of 2",
                               "dim 1, [1, 2) of 2", "dim 1, [1, 2) of 2"}));
  EXPECT_EQ(held(2, 3), (Texts{"dim 1, [0, 1) of 2", "dim 1, [0, 2) of 2",
                               "dim 1, [1, 2) of 2"}));
  // Ranks 0 and 2 have three query heads of two key heads.
  EXPECT_EQ(held(6, 4), (Texts{"none", "none", "none", "none"}));
}

TEST(KvCache, RefusesSizesThatMakeNone) {
  run_model_ranks(1, [] {
    expect_throw<InvalidArgument>(
        [] { KvCache(tiny_options(), 0, 8); },
        "KvCache: batch 0 and max_length 8 must be positive");
    expect_throw<InvalidArgument>(
        [] { KvCache(tiny_options(), 1, 25); },
        "KvCache: max_length 25 is more than the model's max_positions 24");
  });
}

}  // namespace
}  // namespace colonnade

// tests/parallel_layers/cached_attention_test.cpp
#include "colonnade/parallel_layers/cached_attention.h"

#include "colonnade/core/error.h"
#include "tests/testing/expect.h"
#include "tests/testing/tensor_parallel.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace colonnade::parallel_layers {
namespace {

using at::Tensor;
using testing::expect_close;
using testing::expect_equal;
using testing::expect_throw;
using testing::numbers;

constexpr int64_t kBatch = 2, kHeads = 6, kMaxLength = 9, kHeadDim = 4;

/// What one layer keeps.
struct Cache {
  explicit Cache(int64_t kv_heads, at::TensorOptions options = at::kDouble)
      : keys(at::zeros({kBatch, kv_heads, kMaxLength, kHeadDim}, options)),
        values(at::zeros_like(keys)),
        length(at::zeros({}, at::kLong)) {}

  Tensor attend(const Tensor& q, const Tensor& k, const Tensor& v) {
    Tensor y = cached_attention(q, k, v, keys, values, length);
    length.add_(q.size(2));
    return y;
  }

  Tensor keys, values, length;
};

/// As layers give them, [batch, heads, seq, head_dim] of [batch, seq, heads,
/// head_dim].
Tensor some_heads(int64_t heads, int64_t salt) {
  return numbers({kBatch, kMaxLength, heads, kHeadDim}, salt).transpose(1, 2);
}

/// Causal attention to the whole, query by query.
Tensor reference(const Tensor& q, const Tensor& k, const Tensor& v) {
  std::vector<Tensor> rows;
  for (int64_t i = 0; i < q.size(2); ++i) {
    std::vector<Tensor> heads;
    for (int64_t head = 0; head < q.size(1); ++head) {
      const int64_t of = head * k.size(1) / q.size(1);
      const Tensor scores =
          at::matmul(k.select(1, of).narrow(1, 0, i + 1),
                     q.select(1, head).select(1, i).unsqueeze(-1)) /
          std::sqrt(static_cast<double>(kHeadDim));
      heads.push_back(
          (scores.softmax(1) * v.select(1, of).narrow(1, 0, i + 1)).sum(1));
    }
    rows.push_back(at::stack(heads, 1));
  }
  return at::stack(rows, 2);
}

TEST(CachedAttention, InPiecesIsThatOfTheWhole) {
  for (const int64_t kv_heads : {6, 3, 2, 1}) {
    const Tensor q = some_heads(kHeads, 1);
    const Tensor k = some_heads(kv_heads, 2);
    const Tensor v = some_heads(kv_heads, 3);
    const Tensor want = reference(q, k, v);
    for (const auto& pieces : std::vector<std::vector<int64_t>>{
             {9}, {1, 1, 1, 1, 1, 1, 1, 1, 1}, {4, 1, 3, 1}}) {
      Cache cache(kv_heads);
      int64_t past = 0;
      for (const int64_t seq : pieces) {
        const auto next = [&](const Tensor& x) {
          return x.narrow(2, past, seq);
        };
        expect_close(cache.attend(next(q), next(k), next(v)), next(want), 1e-12,
                     concat(kv_heads, " key heads, ", seq, " after ", past));
        past += seq;
        expect_equal(cache.keys.narrow(2, 0, past), k.narrow(2, 0, past));
        expect_equal(cache.values.narrow(2, 0, past), v.narrow(2, 0, past));
        EXPECT_EQ(cache.keys.narrow(2, past, kMaxLength - past)
                      .count_nonzero()
                      .item<int64_t>(),
                  0);
      }
    }
  }
}

TEST(CachedAttention, RunsInEveryDtype) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
    for (const int64_t kv_heads : {6, 2}) {
      const Tensor q = some_heads(kHeads, 1).to(dtype);
      const Tensor k = some_heads(kv_heads, 2).to(dtype);
      const Tensor v = some_heads(kv_heads, 3).to(dtype);
      const Tensor want =
          reference(q.to(at::kDouble), k.to(at::kDouble), v.to(at::kDouble));
      Cache cache(kv_heads, dtype);
      for (int64_t i = 0; i < kMaxLength; ++i) {
        const Tensor got = cache.attend(q.narrow(2, i, 1), k.narrow(2, i, 1),
                                        v.narrow(2, i, 1));
        EXPECT_EQ(got.scalar_type(), dtype);
        expect_close(got.to(at::kDouble), want.narrow(2, i, 1),
                     dtype == at::kFloat ? 1e-6 : 1e-2, c10::toString(dtype));
      }
    }
  }
}

TEST(CachedAttention, TellsAutogradThatTheCachesChange) {
  Cache cache(2);
  const auto keys_before = cache.keys._version();
  const auto values_before = cache.values._version();
  const Tensor q = some_heads(kHeads, 1).narrow(2, 0, 1);
  const Tensor k = some_heads(2, 2).narrow(2, 0, 1);
  cache.attend(q, k, k);
  EXPECT_GT(cache.keys._version(), keys_before);
  EXPECT_GT(cache.values._version(), values_before);
  const c10::InferenceMode inference;
  const Tensor y = cache.attend(q, k, k);
  EXPECT_TRUE(y.is_inference());
  EXPECT_EQ(cache.length.item<int64_t>(), 2);
}

TEST(CachedAttention, TakesShapesFromMeta) {
  const Cache cache(2, at::TensorOptions(at::kFloat).device(at::kMeta));
  const Tensor q =
      at::empty({kBatch, kHeads, 3, kHeadDim}, cache.keys.options());
  const Tensor k = at::empty({kBatch, 2, 3, kHeadDim}, cache.keys.options());
  EXPECT_EQ(
      cached_attention(q, k, k, cache.keys, cache.values, cache.length).sizes(),
      q.sizes());
}

TEST(CachedAttention, RefusesWhatDoesNotFit) {
  Cache cache(2);
  const auto attend = [&](at::IntArrayRef q, at::IntArrayRef k) {
    const Tensor x = at::ones(k, at::kDouble);
    cache.attend(at::ones(q, at::kDouble), x, x);
  };
  attend({2, 6, 8, 4}, {2, 2, 8, 4});
  const Tensor keys = cache.keys.clone();
  expect_throw<InvalidArgument>(
      [&] {
        attend({2, 6, 2, 4}, {2, 2, 2, 4});
      },
      "KvCache: 2 positions after 8 are more than max_length 9; make a longer "
      "cache or clear() it");
  expect_throw<InvalidArgument>(
      [&] {
        attend({1, 6, 1, 4}, {1, 2, 1, 4});
      },
      "KvCache: 1 sequences do not fit a cache made for 2; make one of that "
      "size");
  expect_throw<InvalidArgument>(
      [&] {
        attend({2, 6, 1, 4}, {2, 3, 1, 4});
      },
      "cached_attention: a query of shape [2, 6, 1, 4], a key of [2, 3, 1, 4], "
      "a value of [2, 3, 1, 4] and caches of [2, 2, 9, 4] and [2, 2, 9, 4] do "
      "not fit; expected [batch, heads, seq, head_dim], and [batch, kv_heads, "
      "max_length, head_dim] of the caches");
  const Tensor q = at::ones({2, 6, 1, 4}, at::kDouble).requires_grad_();
  const Tensor k = at::ones({2, 2, 1, 4}, at::kDouble);
  expect_throw<InvalidArgument>(
      [&] { cache.attend(q, k, k); },
      "cached_attention: a cache takes no gradients; call it under "
      "torch::NoGradGuard");
  cache.length = cache.length.to(at::kInt);
  expect_throw<InvalidArgument>(
      [&] { cache.attend(q.detach(), k, k); },
      "cached_attention: the length is Int of shape []; expected one Long");
  expect_equal(cache.keys, keys);
}

TEST(CachePositions, FollowWhatIsHeldOrAreRefused) {
  Cache cache(2);
  cache.length.fill_(5);
  const auto positions = [&](int64_t batch, int64_t seq) {
    return cache_positions(cache.length, at::zeros({batch, seq}, at::kLong),
                           cache.keys);
  };
  expect_equal(positions(kBatch, 3), at::arange(5, 8, at::kLong));
  expect_throw<InvalidArgument>(
      [&] { positions(kBatch, 5); },
      "KvCache: 5 positions after 5 are more than max_length 9; make a longer "
      "cache or clear() it");
  expect_throw<InvalidArgument>(
      [&] { positions(3, 1); },
      "KvCache: 3 sequences do not fit a cache made for 2; make one of that "
      "size");
  expect_throw<InvalidArgument>(
      [&] { cache_positions(cache.length, cache.length, cache.keys); },
      "cache_positions: ids have shape [], the cache [2, 2, 9, 4]; expected "
      "[batch, seq] and [batch, kv_heads, max_length, head_dim]");
}

}  // namespace
}  // namespace colonnade::parallel_layers

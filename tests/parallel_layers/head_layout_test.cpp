// tests/parallel_layers/head_layout_test.cpp
#include "colonnade/parallel_layers/head_layout.h"

#include "colonnade/core/error.h"
#include "tests/testing/expect.h"
#include "tests/testing/gradcheck.h"
#include "tests/testing/tensor_parallel.h"

#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/zeros.h>

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace colonnade::parallel_layers {
namespace {

using at::Tensor;
using testing::expect_equal;
using testing::expect_throw;
using testing::numbers;
using testing::part;
using testing::Placement;
using testing::run_tensor_parallel;

constexpr int64_t kHeadDim = 2;

/// The key head of each of a rank's query heads, in order.
std::vector<int64_t> kv_of_query(const AttentionHeads& heads, int64_t rank,
                                 int64_t size) {
  const int64_t local = heads.num_heads / size;
  std::vector<int64_t> of_query;
  for (int64_t head = rank * local; head < (rank + 1) * local; ++head) {
    of_query.push_back(head * heads.num_kv_heads / heads.num_heads);
  }
  return of_query;
}

TEST(HeadLayout, GivesEachQueryHeadItsKeyHead) {
  for (const int64_t num_heads : {1, 4, 6, 12, 24}) {
    for (int64_t kv_heads = 1; kv_heads <= num_heads; ++kv_heads) {
      for (int64_t size = 1; size <= num_heads; ++size) {
        if (num_heads % kv_heads != 0 || num_heads % size != 0) {
          continue;
        }
        for (int64_t rank = 0; rank < size; ++rank) {
          SCOPED_TRACE(concat(num_heads, " heads, ", kv_heads,
                              " key heads, rank ", rank, " of ", size));
          const AttentionHeads heads{num_heads, kv_heads, kHeadDim};
          const HeadLayout layout(heads, rank, size);
          const std::vector<int64_t> want = kv_of_query(heads, rank, size);
          EXPECT_EQ(layout.num_heads, num_heads / size);
          EXPECT_EQ(layout.gather_kv, kv_heads % size != 0);
          EXPECT_EQ(layout.kv_heads.begin, want.front());
          EXPECT_EQ(layout.kv_heads.end, want.back() + 1);
          // How enable_gqa shares as many key heads.
          bool is_even = layout.num_heads % layout.kv_heads.size() == 0;
          for (int64_t i = 0; is_even && i < layout.num_heads; ++i) {
            const int64_t uses = layout.num_heads / layout.kv_heads.size();
            is_even = want[i] == layout.kv_heads.begin + i / uses;
          }
          EXPECT_EQ(layout.is_even, is_even);
          EXPECT_EQ(layout.num_kv_heads(),
                    is_even ? layout.kv_heads.size() : layout.num_heads);
        }
      }
    }
  }
}

/// What the ranks' even parts of the key weight yield together, padded.
Tensor whole_product(const AttentionHeads& heads, int64_t size) {
  const int64_t width = heads.num_kv_heads * heads.head_dim;
  const int64_t padding = (size - width % size) % size;
  return at::constant_pad_nd(numbers({2, 3, width}, 1), {0, padding});
}

// Key heads that divide over 4 ranks, that are fewer and shared evenly, and
// unevenly.
const std::vector<int64_t> kKvHeads{4, 2, 1, 6};

TEST(KeyValueHeads, AreThoseOfTheLayout) {
  for (const int ranks : {1, 2, 3, 4}) {
    run_tensor_parallel(ranks, [&](const GroupPtr& group) {
      for (const int64_t kv_heads : kKvHeads) {
        SCOPED_TRACE(concat(kv_heads, " key heads over ", ranks, " ranks"));
        const AttentionHeads heads{12, kv_heads, kHeadDim};
        const Tensor product = whole_product(heads, ranks);
        const Tensor y = part(product, -1, group).contiguous();
        const Tensor got = key_value_heads(y, heads);
        const HeadLayout layout(heads, group->rank(), ranks);
        const Tensor whole = product.narrow(-1, 0, kv_heads * kHeadDim)
                                 .unflatten(-1, {kv_heads, kHeadDim});
        Tensor want =
            whole.narrow(2, layout.kv_heads.begin, layout.kv_heads.size());
        if (!layout.is_even) {
          std::vector<Tensor> copies;
          for (const int64_t head : kv_of_query(heads, group->rank(), ranks)) {
            copies.push_back(whole.select(2, head));
          }
          want = at::stack(copies, 2);
        }
        expect_equal(got, want);
        EXPECT_EQ(got.is_alias_of(y), !layout.gather_kv);
      }
    });
  }
}

TEST(KeyValueHeads, HaveTheGradientsOfTheWholeProgram) {
  run_tensor_parallel(4, [](const GroupPtr& group) {
    for (const int64_t kv_heads : kKvHeads) {
      const AttentionHeads heads{12, kv_heads, kHeadDim};
      const auto f = [&](const std::vector<Tensor>& in) {
        return key_value_heads(in[0], heads, group);
      };
      const Tensor y = part(whole_product(heads, 4), -1, group);
      testing::gradcheck({f, Placement::kPerRank}, {{y, Placement::kPerRank}},
                         group, concat(kv_heads, " key heads"));
    }
  });
}

TEST(HeadLayout, RefusesHeadsThatDoNotDivide) {
  const auto expect_refusal = [](const AttentionHeads& heads, int64_t size,
                                 const std::string& text) {
    expect_throw<InvalidArgument>(
        [&] { HeadLayout(heads, 0, size); },
        "HeadLayout: " + text + "; make them a multiple of both");
  };
  expect_refusal({12, 5, 2}, 2, "12 query heads with 5 key heads over 2 ranks");
  expect_refusal({12, 4, 2}, 5, "12 query heads with 4 key heads over 5 ranks");
  expect_refusal({12, 0, 2}, 1, "12 query heads with 0 key heads over 1 ranks");
}

TEST(KeyValueHeads, RefuseAnotherSize) {
  run_tensor_parallel(2, [](const GroupPtr&) {
    expect_throw<InvalidArgument>(
        [] {
          key_value_heads(at::zeros({1, 3, 8}), {12, 3, kHeadDim});
        },
        "key_value_heads: an input of shape [1, 3, 8] is not what 3 heads of 2 "
        "over 2 ranks yield; expected [..., 3]");
  });
}

}  // namespace
}  // namespace colonnade::parallel_layers

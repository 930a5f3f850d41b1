// tests/comm/collectives_test.cpp
#include "colonnade/comm/detail/channel.h"
#include "colonnade/launch/launch.h"
#include "tests/comm/check_collectives.h"
#include "tests/comm/world_group.h"

#include <ATen/ATen.h>

#include <gtest/gtest.h>

#include <string>

namespace colonnade {
namespace {

class CollectivesTest : public testing::TestWithParam<at::ScalarType> {};

TEST_P(CollectivesTest, MatchOneThread) {
  for (const int size : {1, 2, 3, 4}) {
    run_ranks(size, [](int) {
      const GroupPtr group = make_world_group();
      // Around the size up to which tensors are copied into slots, too.
      for (const int64_t n : {0, 1, 7, 511, 1025, 4097, 20003}) {
        check_collectives(*group, n, GetParam());
      }
    });
  }
}

TEST_P(CollectivesTest, MatchOneThreadWhenLarge) {
  run_ranks(2, [](int) {
    check_collectives(*make_world_group(), (1 << 20) + 3, GetParam());
  });
}

// Above the size up to which threads copy, and that of those that share cores.
TEST(LentTensors, MatchOneThread) {
  run_ranks(4, [](int) {
    check_collectives(*make_world_group(), 200'000, at::kShort);
  });

  constexpr int64_t n = (16 << 20) + 6;
  const at::Tensor of[] = {at::arange(n).remainder(251).to(at::kByte),
                           at::arange(n).remainder(83).to(at::kByte)};
  run_ranks(2, [&](int rank) {
    const GroupPtr group = make_world_group();
    const at::Tensor& x = of[rank];
    at::Tensor both = at::empty({2, n}, at::kByte);
    group->all_gather(both, x);
    EXPECT_TRUE(at::equal(both, at::stack(of)));

    at::Tensor part = at::empty({n / 2}, at::kByte);
    group->reduce_scatter(part, x);
    EXPECT_TRUE(at::equal(part, (of[0] + of[1]).chunk(2)[rank]));

    at::Tensor exchanged = at::empty({n}, at::kByte);
    group->all_to_all(exchanged, x);
    EXPECT_TRUE(at::equal(
        exchanged, at::cat({of[0].chunk(2)[rank], of[1].chunk(2)[rank]})));

    at::Tensor root = x.clone();
    group->broadcast(root, 1);
    EXPECT_TRUE(at::equal(root, of[1]));
  });
}

TEST(SharedTensors, CanBeBroadcast) {
  for (const int64_t n : {4, 300'000, (16 << 20) + 5}) {
    const at::Tensor x = at::arange(n).remainder(251).to(at::kByte);
    const at::Tensor want = x.clone();
    run_ranks(2, [&](int) {
      at::Tensor mine = x;
      make_world_group()->broadcast(mine, 1);
    });
    EXPECT_TRUE(at::equal(x, want));
  }
}

TEST(Channel, HasAPieceForAnyNumberOfParts) {
  using detail::Channel;
  EXPECT_EQ(Channel::piece_bytes(2), Channel::kChunkBytes / 2);
  EXPECT_EQ(Channel::piece_bytes(3) % 64, 0);
  EXPECT_EQ(Channel::piece_bytes(Channel::kMostParts), 64);
  EXPECT_EQ(Channel::piece_bytes(Channel::kMostParts + 1), 64);
}

TEST_P(CollectivesTest, MatchOneThreadOnSubgroups) {
  run_ranks(4, [](int rank) {
    const GroupPtr row = make_group({rank / 2 * 2, rank / 2 * 2 + 1});
    const GroupPtr column = make_group({rank % 2, rank % 2 + 2});
    const GroupPtr alone = make_group({rank});
    const GroupPtr all = make_world_group();
    for (const int64_t n : {3, 3000}) {  // interleaved
      for (const GroupPtr& group : {row, all, column, alone}) {
        check_collectives(*group, n, GetParam());
      }
    }
    if (rank > 0) {
      check_collectives(*make_group({1, 2, 3}), 2000, GetParam());
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Dtypes, CollectivesTest,
                         testing::Values(at::kFloat, at::kDouble, at::kHalf,
                                         at::kBFloat16, at::kLong, at::kInt,
                                         at::kShort, at::kChar, at::kBool),
                         [](const auto& param) {
                           return std::string(at::toString(param.param));
                         });

}  // namespace
}  // namespace colonnade

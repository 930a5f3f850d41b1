// tests/sharding/split_join_test.cpp
#include "colonnade/sharding/split_join.h"

#include "colonnade/core/error.h"
#include "colonnade/launch/launch.h"
#include "colonnade/parallel_state/parallel_state.h"

#include <ATen/ATen.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

namespace colonnade {
namespace {

using testing::StrEq;
using testing::ThrowsMessage;

using Specs = std::vector<ShardSpec>;

/// A whole tensor and how its ranks share it.
struct Case {
  at::Tensor whole;
  Specs specs;
};

class Cases {
 public:
  explicit Cases(unsigned seed) : random_(seed) {}

  /// One of the ways to share a tensor of up to three dims over `size` ranks.
  Case next(int64_t size) {
    const int64_t dims = between(1, 3), dim = between(0, dims - 1);
    Specs specs;
    switch (between(0, 3)) {
      case 0: {
        const int64_t whole_size = size * between(0, 4);
        specs = for_ranks(size, [&](int64_t rank) {
          return ShardSpec::even(dim, whole_size, rank, size);
        });
        break;
      }
      case 1: {
        const int64_t whole_size = between(1, 9);
        specs = for_ranks(size, [&](int64_t rank) {
          return ShardSpec::padded(dim, whole_size, rank, size);
        });
        break;
      }
      case 2: {
        std::vector<int64_t> segments(between(1, 3));
        for (int64_t& segment : segments) {
          segment = size * between(1, 3);
        }
        specs = for_ranks(size, [&](int64_t rank) {
          return ShardSpec::segments(dim, segments, rank, size);
        });
        break;
      }
      default:
        specs = uneven(dim, size);
    }
    std::vector<int64_t> shape;
    for (int64_t i = 0; i < dims; ++i) {
      shape.push_back(between(1, 4));
    }
    shape[dim] = specs[0].whole_size;
    constexpr at::ScalarType kTypes[] = {at::kFloat, at::kBFloat16, at::kDouble,
                                         at::kLong,  at::kBool,     at::kByte};
    at::Tensor whole = at::arange(1, 1 + c10::multiply_integers(shape))
                           .remainder(251)
                           .view(shape)
                           .to(kTypes[between(0, 5)]);
    return {whole, specs};
  }

 private:
  int64_t between(int64_t low, int64_t high) {
    return std::uniform_int_distribution(low, high)(random_);
  }

  template <typename F>
  static Specs for_ranks(int64_t size, F&& make) {
    Specs specs;
    for (int64_t rank = 0; rank < size; ++rank) {
      specs.push_back(make(rank));
    }
    return specs;
  }

  /// Each index is held by one rank, or by several; padding of any size.
  Specs uneven(int64_t dim, int64_t size) {
    const int64_t whole_size = between(1, 12);
    Specs specs(size, ShardSpec{dim, whole_size, {}, 0});
    for (int64_t i = 0; i < whole_size; ++i) {
      const int64_t owner = between(0, size - 1);
      for (int64_t rank = 0; rank < size; ++rank) {
        std::vector<IndexRange>& ranges = specs[rank].ranges;
        if (rank != owner && between(0, 3) != 0) {
          continue;
        }
        if (!ranges.empty() && ranges.back().end == i && between(0, 1) == 0) {
          ranges.back().end = i + 1;
        } else {
          ranges.push_back({i, i + 1});
        }
      }
    }
    for (ShardSpec& spec : specs) {
      spec.local_size = spec.held_size() + between(0, 2);
    }
    return specs;
  }

  std::mt19937 random_;
};

std::string to_string(const Specs& specs) {
  std::string text;
  for (const ShardSpec& spec : specs) {
    text += colonnade::to_string(spec) + "; ";
  }
  return text;
}

TEST(SplitJoin, JoinOfSplitsIsTheWhole) {
  Cases cases(1);
  for (int i = 0; i < 600; ++i) {
    const int64_t size = 1 + i % 4;
    const Case c = cases.next(size);
    std::vector<at::Tensor> shards;
    for (const ShardSpec& spec : c.specs) {
      shards.push_back(split(c.whole, spec));
      ASSERT_EQ(shards.back().sizes(), spec.local_shape(c.whole.sizes()));
      ASSERT_EQ(shards.back().scalar_type(), c.whole.scalar_type());
      ASSERT_EQ(shards.back()
                    .narrow(spec.dim, spec.held_size(), spec.padding())
                    .count_nonzero()
                    .item<int64_t>(),
                0);
      // What is in the padding is never looked at.
      shards.back()
          .narrow(spec.dim, spec.held_size(), spec.padding())
          .fill_(77);
    }
    ASSERT_TRUE(at::equal(join(shards, c.specs), c.whole))
        << to_string(c.specs);
  }
}

class GatherParameterTest : public testing::TestWithParam<int> {};

TEST_P(GatherParameterTest, GivesEveryRankTheWhole) {
  run_ranks(GetParam(), [](int rank) {
    parallel_state::initialize_model_parallel(GetParam());
    Cases cases(2);
    for (int i = 0; i < 100; ++i) {
      const Case c = cases.next(GetParam());
      at::Tensor parameter = split(c.whole, c.specs[rank]);
      if (at::isFloatingType(parameter.scalar_type())) {
        parameter.requires_grad_();
      }
      set_tensor_parallel_attributes(parameter, {c.specs[rank], "tp"});
      const at::Tensor whole = gather_parameter(parameter);
      ASSERT_TRUE(at::equal(whole, c.whole)) << to_string(c.specs);
      EXPECT_FALSE(whole.requires_grad());

      at::Tensor filled =
          at::full_like(parameter, 1).requires_grad_(parameter.requires_grad());
      copy_tensor_parallel_attributes(filled, parameter);
      split_parameter(filled, c.whole);
      ASSERT_TRUE(at::equal(filled, parameter)) << to_string(c.specs);
      EXPECT_EQ(filled.requires_grad(), parameter.requires_grad());
    }
  });
}

TEST_P(GatherParameterTest, TakesAParameterThatIsNotContiguous) {
  run_ranks(GetParam(), [](int rank) {
    parallel_state::initialize_model_parallel(GetParam());
    const at::Tensor whole = at::arange(12 * 3).view({12, 3});
    const ShardSpec spec = ShardSpec::even(0, 12, rank, GetParam());
    const at::Tensor parameter = split(whole, spec).t().contiguous().t();
    set_tensor_parallel_attributes(parameter, {spec, "tp"});
    EXPECT_TRUE(at::equal(gather_parameter(parameter), whole));
  });
}

TEST_P(GatherParameterTest, OfAReplicatedParameterIsACopy) {
  run_ranks(GetParam(), [] {
    const at::Tensor parameter = at::ones({3}).requires_grad_();
    const at::Tensor copy = gather_parameter(parameter);
    EXPECT_FALSE(copy.requires_grad());
    copy.zero_();
    EXPECT_TRUE(at::equal(parameter, at::ones({3})));
  });
}

INSTANTIATE_TEST_SUITE_P(Ranks, GatherParameterTest,
                         testing::Values(1, 2, 3, 4));

TEST(GatherParameter, IsOverTheGroupOfTheParameter) {
  run_ranks(4, [](int rank) {
    parallel_state::initialize_model_parallel(4);
    const GroupPtr odd = parallel_state::new_group("odd", {1, 3});
    if (odd == nullptr) {
      return;
    }
    const at::Tensor whole = at::arange(6);
    const ShardSpec spec = ShardSpec::even(0, 6, odd->rank(), 2);
    EXPECT_EQ(odd->rank(), rank / 2);
    const at::Tensor parameter = split(whole, spec);
    set_tensor_parallel_attributes(parameter, {spec, "odd"});
    EXPECT_TRUE(at::equal(gather_parameter(parameter), whole));
  });
}

TEST(GatherParameter, OfShardsOfDifferentTensorsThrowsOnEveryRank) {
  run_ranks(2, [](int rank) {
    parallel_state::initialize_model_parallel(2);
    // Of the same local shape, but the whole is 8 long on one rank, 10 on the
    // other.
    const ShardSpec spec{0, rank == 0 ? 8 : 10, {{4 * rank, 4 * rank + 4}}, 4};
    const at::Tensor parameter = at::zeros({4, 2});
    set_tensor_parallel_attributes(parameter, {spec, "tp"});
    EXPECT_THAT([&] { gather_parameter(parameter); },
                ThrowsMessage<InvalidArgument>(
                    StrEq("join: rank 1 holds [4, 2] (dim 0, [4, 8) of 10), "
                          "rank 0 [4, 2] (dim 0, [0, 4) of 8); they are not "
                          "shards of one tensor")));
  });
}

TEST(SplitParameter, ShowsBothShapes) {
  at::Tensor sharded = at::zeros({3, 2});
  set_tensor_parallel_attributes(sharded,
                                 {ShardSpec::padded(0, 8, 2, 3), "tp"});
  EXPECT_THAT(
      [&] {
        split_parameter(sharded, at::zeros({9, 2}));
      },
      ThrowsMessage<InvalidArgument>(
          StrEq("split_parameter: the tensor given is [9, 2], the "
                "whole parameter is [8, 2] (dim 0, [6, 8) of 8, padded "
                "to 3); pass the whole, without padding")));
  at::Tensor replicated = at::zeros({3, 2});
  EXPECT_THAT(
      [&] {
        split_parameter(replicated, at::zeros({2, 3}));
      },
      ThrowsMessage<InvalidArgument>(
          StrEq("split_parameter: the tensor given is [2, 3], the "
                "whole parameter is [3, 2]; pass the whole, without "
                "padding")));
}

TEST(SplitParameter, FillsAReplicatedLeafThatNeedsAGradient) {
  at::Tensor parameter = at::zeros({2, 2}).requires_grad_();
  split_parameter(parameter, at::ones({2, 2}, at::kDouble));
  EXPECT_TRUE(at::equal(parameter, at::ones({2, 2})));
  EXPECT_TRUE(parameter.is_leaf() && parameter.requires_grad());
}

TEST(Split, RefusesAWholeOfAnotherSize) {
  EXPECT_THAT([] { split(at::zeros({9}), ShardSpec::even(0, 8, 0, 2)); },
              ThrowsMessage<InvalidArgument>(
                  StrEq("ShardSpec: whole [9] does not have size 8 at dim 0 "
                        "(dim 0, [0, 4) of 8)")));
}

TEST(Join, TakesWhatSeveralHoldFromTheFirst) {
  const Specs specs{{0, 3, {{0, 2}}, 2}, {0, 3, {{1, 3}}, 2}};
  const std::vector<at::Tensor> shards{at::zeros({2}), at::ones({2})};
  EXPECT_TRUE(at::equal(join(shards, specs), at::tensor({0.f, 0.f, 1.f})));
}

TEST(Join, RefusesWhatIsNoWhole) {
  const auto refused = [](std::vector<at::Tensor> shards, const Specs& specs,
                          const std::string& message) {
    EXPECT_THAT([&] { join(shards, specs); },
                ThrowsMessage<InvalidArgument>(StrEq("join: " + message)));
  };
  const ShardSpec first = ShardSpec::even(0, 12, 0, 3),
                  second = ShardSpec::even(0, 12, 1, 3),
                  third = ShardSpec::even(0, 12, 2, 3);
  const at::Tensor x = at::zeros({4, 2});
  const std::string all = " is in no shard; pass the shards of every rank";
  refused({}, {}, "0 shards and 0 specs; pass one of each a rank");
  refused({x}, {first, second},
          "1 shards and 2 specs; pass one of each a rank");
  refused({x, x}, {first, third}, "[4, 8) of dim 0 of size 12" + all);
  refused({x, x}, {second, third}, "[0, 4) of dim 0 of size 12" + all);
  refused({x, x}, {first, second}, "[8, 12) of dim 0 of size 12" + all);
  refused({x, at::zeros({4, 3})}, {first, second},
          "rank 1 holds [4, 3] (dim 0, [4, 8) of 12), rank 0 [4, 2] (dim 0, "
          "[0, 4) of 12); they are not shards of one tensor");
  refused({x, at::zeros({5, 2})}, {first, second},
          "rank 1: shard [5, 2] does not have local_size 4 at dim 0 (dim 0, "
          "[4, 8) of 12)");
  refused({x, x.to(at::kDouble)}, {first, second},
          "rank 1 holds Double, rank 0 Float; gather shards of one dtype");
}

}  // namespace
}  // namespace colonnade

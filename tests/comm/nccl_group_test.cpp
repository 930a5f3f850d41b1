// tests/comm/nccl_group_test.cpp
//
// Over a NCCL that needs no device (fake_nccl.h): what each call asks of it,
// and what becomes of errors. nccl_device_test.cpp has the real one.
#include "colonnade/comm/detail/nccl_group.h"

#include "colonnade/comm/backend.h"
#include "colonnade/comm/rank_context.h"
#include "colonnade/core/error.h"
#include "colonnade/launch/launch.h"
#include "tests/comm/check_collectives.h"
#include "tests/comm/fake_nccl.h"
#include "tests/comm/world_group.h"
#include "tests/testing/error_of.h"

#include <ATen/ATen.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <functional>
#include <memory>
#include <string>

namespace colonnade {
namespace {

using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

class NcclGroupTest : public testing::Test {
 protected:
  void SetUp() override { FakeNccl::state().reset(); }

  static std::shared_ptr<detail::NcclWorld> world() {
    return std::make_shared<detail::NcclWorld>(
        RankContext::current()->world(), fake_nccl(), at::kCPU, fake_queue);
  }

  static GroupPtr group_over(const std::shared_ptr<detail::NcclWorld>& world,
                             const GroupPtr& host) {
    return detail::make_nccl_group(world, host);
  }

  /// The text of the CommError that each of two ranks ends with.
  static std::array<std::string, 2> errors_of_two(
      const std::function<void(Group&)>& body) {
    std::array<std::string, 2> texts;
    EXPECT_THROW(run_ranks(2,
                           [&](int rank) {
                             const auto over = world();
                             const GroupPtr group =
                                 group_over(over, make_world_group());
                             try {
                               body(*group);
                             } catch (const CommError& error) {
                               texts[static_cast<size_t>(rank)] = error.what();
                               throw;
                             }
                           }),
                 CommError);
    return texts;
  }
};

class NcclCollectives : public NcclGroupTest,
                        public testing::WithParamInterface<at::ScalarType> {};

TEST_P(NcclCollectives, MatchOneThread) {
  for (const int size : {2, 3, 4}) {
    run_ranks(size, [](int) {
      const auto over = world();
      const GroupPtr group = group_over(over, make_world_group());
      for (const int64_t n : {0, 1, 7, 4097}) {
        check_collectives(*group, n, GetParam(), at::kCPU, /*bits=*/false);
      }
      over->leave();
    });
  }
}

TEST_P(NcclCollectives, MatchOneThreadOnSubgroups) {
  run_ranks(4, [](int rank) {
    const auto over = world();
    const GroupPtr row =
        group_over(over, make_group({rank / 2 * 2, rank / 2 * 2 + 1}));
    const GroupPtr all = group_over(over, make_world_group());
    for (const int64_t n : {3, 3000}) {
      check_collectives(*row, n, GetParam(), at::kCPU, /*bits=*/false);
      check_collectives(*all, n, GetParam(), at::kCPU, /*bits=*/false);
    }
    over->leave();
  });
}

INSTANTIATE_TEST_SUITE_P(Dtypes, NcclCollectives,
                         testing::Values(at::kFloat, at::kDouble, at::kHalf,
                                         at::kBFloat16, at::kLong, at::kInt,
                                         at::kByte, at::kChar, at::kBool),
                         [](const auto& param) {
                           return std::string(at::toString(param.param));
                         });

TEST_F(NcclGroupTest, MakesACommunicatorAtTheFirstCallAndClosesIt) {
  run_ranks(4, [](int rank) {
    const auto over = world();
    const GroupPtr unused = group_over(over, make_world_group());
    const GroupPtr group = group_over(over, make_world_group());
    group->barrier();
    EXPECT_EQ(FakeNccl::state().opened, 0);
    group->barrier();
    // Between two of four: the others need not come.
    at::Tensor x = at::full({3}, rank, at::kFloat);
    if (rank == 3) {
      group->send(x, 1);
    } else if (rank == 1) {
      group->recv(x, 3);
      EXPECT_TRUE(at::equal(x, at::full({3}, 3, at::kFloat)));
    }
    group->barrier();
    EXPECT_EQ(FakeNccl::state().opened, 2);
    group->barrier();
    group->all_reduce(x);
    group->all_reduce(x);
    over->leave();
  });
  EXPECT_EQ(FakeNccl::state().opened, 6);
  EXPECT_EQ(FakeNccl::state().closed, 6);
  EXPECT_EQ(FakeNccl::state().aborted, 0);
}

TEST_F(NcclGroupTest, RefusesWhatNcclCannotCombine) {
  run_ranks(2, [](int) {
    const auto over = world();
    const GroupPtr group = group_over(over, make_world_group());
    at::Tensor x = at::zeros({2}, at::kShort);
    EXPECT_THAT(error_of<InvalidArgument>([&] { group->all_reduce(x); }),
                HasSubstr("no sum of int16 tensors; convert x to a type"));
    group->broadcast(x, 0);  // is no sum
    over->leave();
  });
}

TEST_F(NcclGroupTest, CallsThatDifferAreAnErrorOnAll) {
  const auto texts = errors_of_two([](Group& group) {
    at::Tensor x = at::zeros({group.rank() + 2});
    group.all_reduce(x);
  });
  for (const std::string& text : texts) {
    EXPECT_THAT(text,
                AllOf(HasSubstr("all_reduce(float32 [2], sum)"),
                      HasSubstr("all_reduce(float32 [3], sum)"),
                      HasSubstr("call 1 of group \"all\""),
                      EndsWith("; all ranks must make the same calls in the "
                               "same order")));
  }
  EXPECT_EQ(FakeNccl::state().opened, 0);
}

TEST_F(NcclGroupTest, ADeviceThatDoesNotComeToAnEndIsAnErrorOnAll) {
  const auto texts = errors_of_two([](Group& group) {
    at::Tensor x = at::zeros({2});
    group.all_reduce(x);
    group.barrier();
    FakeNccl::state().is_stuck = true;
    if (group.rank() == 1) {
      group.set_timeout(std::chrono::milliseconds(50));
    }
    group.all_reduce(x);
  });
  constexpr char kWhy[] =
      "nccl: rank 1 waited 50 ms in all_reduce(float32 [2], sum), call 3 of "
      "group \"all\" (ranks 0 and 1): its device, or that of another rank, did "
      "not come to the end of it";
  EXPECT_EQ(texts[1], kWhy);
  EXPECT_THAT(texts[0], StartsWith(concat("rank 1 failed: ", kWhy)));
  EXPECT_EQ(FakeNccl::state().aborted, 2);
}

TEST_F(NcclGroupTest, AnErrorOfNcclIsAnErrorOnAll) {
  const auto texts = errors_of_two([](Group& group) {
    at::Tensor x = at::zeros({2});
    group.all_reduce(x);
    group.barrier();
    FakeNccl::state().refuses = true;
    group.all_reduce(x);
  });
  for (const std::string& text : texts) {
    EXPECT_THAT(text, HasSubstr("cannot go on: ncclAllReduce: internal error, "
                                "out of patience"));
  }
  EXPECT_EQ(FakeNccl::state().aborted, 2);
}

TEST(NcclBackend, SaysWhyItCannotRun) {
  const Backend& nccl = find_backend("nccl");
  const std::string why_not = nccl.why_not();
  if (why_not.empty()) {
    GTEST_SKIP() << "it can";
  }
  EXPECT_EQ(error_of<InvalidArgument>(
                [&] { nccl.make_local_worlds(2, std::chrono::seconds(1)); }),
            "nccl: cannot be used: " + why_not);
}

}  // namespace
}  // namespace colonnade

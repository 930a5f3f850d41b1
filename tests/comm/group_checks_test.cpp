// tests/comm/group_checks_test.cpp
#include "colonnade/comm/backend.h"
#include "colonnade/comm/exchange.h"
#include "colonnade/comm/group.h"
#include "colonnade/comm/rank_context.h"
#include "colonnade/core/error.h"
#include "colonnade/launch/launch.h"
#include "tests/comm/world_group.h"
#include "tests/testing/error_of.h"

#include <ATen/ATen.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace colonnade {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

/// Runs `body(group)` on every rank of a world of two; afterwards the group
/// must still work, since nothing was sent.
template <typename Body>
void on_two_ranks(Body body) {
  run_ranks(2, [&](int) {
    const GroupPtr group = make_world_group();
    body(*group);
    at::Tensor one = at::ones({1});
    group->all_reduce(one);
    EXPECT_EQ(one.item<float>(), 2);
  });
}

TEST(GroupChecks, RefuseWhatIsNotContiguous) {
  on_two_ranks([](Group& group) {
    at::Tensor x = at::zeros({2, 3}).t();
    const std::string rank = std::to_string(group.rank());
    EXPECT_EQ(error_of<InvalidArgument>([&] { group.all_reduce(x); }),
              "all_reduce of group \"all\" (rank " + rank +
                  "): x of shape [3, 2] is not contiguous (strides [1, 3]); "
                  "call contiguous() first");
    at::Tensor out = at::zeros({2, 6}).slice(1, 0, 6, 2);
    EXPECT_THAT(error_of<InvalidArgument>(
                    [&] { group.all_gather(out, at::zeros({3})); }),
                HasSubstr("out of shape [2, 3] is not contiguous"));
  });
}

TEST(GroupChecks, RefuseOtherDevicesAndLayouts) {
  on_two_ranks([](Group& group) {
    at::Tensor meta = at::empty({2}, at::device(at::kMeta));
    EXPECT_THAT(error_of<InvalidArgument>([&] { group.broadcast(meta, 0); }),
                HasSubstr("x is on meta, and the group exchanges tensors on "
                          "cpu; move it there"));
    at::Tensor sparse = at::eye(2).to_sparse();
    EXPECT_THAT(error_of<InvalidArgument>([&] { group.all_reduce(sparse); }),
                HasSubstr("x is Sparse; only dense tensors are exchanged"));
    at::Tensor none;
    EXPECT_THAT(error_of<InvalidArgument>([&] { group.all_reduce(none); }),
                HasSubstr("x is undefined; give a tensor"));
    at::Tensor conjugated = at::zeros({2}, at::kComplexFloat).conj();
    EXPECT_THAT(
        error_of<InvalidArgument>([&] { group.all_reduce(conjugated); }),
        HasSubstr("x is a lazily conjugated or negated view"));
  });
}

TEST(GroupChecks, RefuseDtypes) {
  on_two_ranks([](Group& group) {
    at::Tensor flags = at::zeros({2}, at::kBool);
    EXPECT_THAT(error_of<InvalidArgument>([&] { group.all_reduce(flags); }),
                HasSubstr("no sum of bool tensors; convert x to a type that "
                          "has it"));
    at::Tensor complex = at::zeros({2}, at::kComplexFloat);
    EXPECT_THAT(error_of<InvalidArgument>(
                    [&] { group.all_reduce(complex, ReduceOp::kMax); }),
                HasSubstr("no max or min of complex64 tensors"));
    at::Tensor fractions = at::zeros({2});
    EXPECT_THAT(error_of<InvalidArgument>(
                    [&] { group.all_reduce(fractions, ReduceOp::kBitXor); }),
                HasSubstr("no bitwise xor of float32 tensors"));
    at::Tensor out = at::zeros({2}, at::kDouble);
    EXPECT_THAT(error_of<InvalidArgument>(
                    [&] { group.all_gather(out, at::zeros({1})); }),
                HasSubstr("out is float64 and x float32; they must have one "
                          "dtype"));
  });
}

TEST(GroupChecks, RefuseShapes) {
  on_two_ranks([](Group& group) {
    at::Tensor out = at::zeros({3});
    EXPECT_THAT(error_of<InvalidArgument>(
                    [&] { group.all_gather(out, at::zeros({2})); }),
                HasSubstr("out of shape [3] has 3 elements, and x of shape [2] "
                          "on 2 ranks makes 4"));
    EXPECT_THAT(error_of<InvalidArgument>(
                    [&] { group.reduce_scatter(out, at::zeros({7})); }),
                HasSubstr("the 7 elements of x of shape [7] do not divide over "
                          "2 ranks; pad x"));
    EXPECT_THAT(error_of<InvalidArgument>(
                    [&] { group.reduce_scatter(out, at::zeros({8})); }),
                HasSubstr("out of shape [3] has 3 elements, and x of shape [8] "
                          "on 2 ranks makes 4"));
    EXPECT_THAT(error_of<InvalidArgument>(
                    [&] { group.all_to_all(out, at::zeros({4})); }),
                HasSubstr("out of shape [3] has 3 elements"));
  });
}

TEST(GroupChecks, RefuseRanksOutsideOfTheGroup) {
  on_two_ranks([](Group& group) {
    at::Tensor x = at::zeros({2});
    EXPECT_THAT(error_of<InvalidArgument>([&] { group.broadcast(x, 2); }),
                HasSubstr("root is 2, outside of the group's ranks [0, 2)"));
    EXPECT_THAT(error_of<InvalidArgument>([&] { group.recv(x, -1); }),
                HasSubstr("src is -1, outside of the group's ranks [0, 2)"));
    EXPECT_THAT(error_of<InvalidArgument>([&] { group.send(x, group.rank()); }),
                HasSubstr("this rank itself; copy the tensor instead"));
  });
}

TEST(GroupChecks, RefuseSharedMemoryUnlessItIsThisRanksPart) {
  on_two_ranks([](Group& group) {
    at::Tensor whole = at::zeros({4});
    at::Tensor mine = whole.narrow(0, 2 * group.rank(), 2);
    at::Tensor other = whole.narrow(0, 2 - 2 * group.rank(), 2);
    mine.fill_(group.rank() + 1);
    EXPECT_THAT(
        error_of<InvalidArgument>([&] { group.all_gather(whole, other); }),
        HasSubstr("x and out share memory; give out memory of its own, "
                  "or this rank's part of the whole"));
    EXPECT_THAT(
        error_of<InvalidArgument>([&] { group.all_to_all(whole, whole); }),
        HasSubstr("x and out share memory; give out memory of its own"));
    group.all_gather(whole, mine);
    EXPECT_TRUE(at::equal(whole, at::tensor({1.F, 1.F, 2.F, 2.F})));
    group.reduce_scatter(mine, whole);
    EXPECT_TRUE(at::equal(mine, at::full({2}, 2 * (group.rank() + 1))));
  });
}

TEST(GroupChecks, TellAutogradOfWrites) {
  on_two_ranks([](Group& group) {
    at::Tensor x = at::zeros({2});
    const int64_t before = x._version();
    group.all_reduce(x);
    EXPECT_GT(x._version(), before);
  });
}

TEST(GroupChecks, OneRankHasTheSame) {
  run_ranks(1, [] {
    const GroupPtr group = make_world_group();
    at::Tensor x = at::zeros({2, 3}).t();
    EXPECT_THROW(group->all_reduce(x), InvalidArgument);
    EXPECT_THROW(group->send(at::zeros({1}), 0), InvalidArgument);
  });
}

TEST(MakeGroup, RefusesRanksThatAreNoGroup) {
  for (const int size : {1, 2}) {
    run_ranks(size, [&](int rank) {
      const std::string last = std::to_string(size);
      EXPECT_EQ(error_of<InvalidArgument>([&] {
                  make_group({0, size}, "g");
                }),
                "make_group: the ranks [0, " + last +
                    "] of group \"g\" are not ascending ranks of a world of " +
                    last);
      EXPECT_THAT(error_of<InvalidArgument>([&] { make_group({}, "g"); }),
                  StartsWith("make_group: the ranks []"));
      EXPECT_THAT(error_of<InvalidArgument>([&] {
                    make_group({0, 0}, "g");
                  }),
                  StartsWith("make_group: the ranks [0, 0]"));
      if (rank == 1) {
        EXPECT_EQ(error_of<InvalidArgument>([&] { make_group({0}, "g"); }),
                  "make_group: rank 1 is not one of the ranks [0] of group "
                  "\"g\"; only members make a group");
      }
    });
  }
}

TEST(MakeGroup, MakesAnotherGroupEachTime) {
  run_ranks(2, [](int rank) {
    const GroupPtr first = make_group({0, 1}, "g");
    const GroupPtr second = make_group({0, 1}, "g");
    at::Tensor x = at::ones({1});
    at::Tensor y = at::ones({1});
    first->all_reduce(x);
    second->all_reduce(y);
    EXPECT_EQ((x + y).item<float>(), 4);
    EXPECT_EQ(first->rank(), rank);
    EXPECT_EQ(first->ranks(), (std::vector<int64_t>{0, 1}));
  });
}

TEST(Exchange, GathersAndSpreadsTexts) {
  for (const int size : {1, 2, 3}) {
    run_ranks(size, [&](int rank) {
      const GroupPtr group = make_world_group();
      const auto text = [](int64_t i) {
        return std::string(static_cast<size_t>(i) * 5000, 'a' + char(i));
      };
      const std::vector<std::string> all = all_gather_bytes(*group, text(rank));
      ASSERT_EQ(all.size(), static_cast<size_t>(size));
      for (int i = 0; i < size; ++i) {
        EXPECT_EQ(all[static_cast<size_t>(i)], text(i));
      }
      EXPECT_EQ(broadcast_bytes(*group, text(rank), size - 1), text(size - 1));
    });
  }
}

TEST(Backends, SayWhatTheyCanDo) {
  std::vector<std::string> names;
  for (const Backend& backend : backends()) {
    names.emplace_back(backend.name);
    // A device is no part of a build.
    EXPECT_TRUE(backend.name == "nccl" ||
                backend.built_in == backend.why_not().empty())
        << backend.name;
    EXPECT_EQ(backend.built_in, backend.make_local_worlds != nullptr ||
                                    backend.make_process_world != nullptr);
  }
  EXPECT_THAT(names, testing::ElementsAre("self", "threads", "shm", "gloo",
                                          "nccl", "mpi"));
}

TEST(RankContextTest, FindsGroupsByName) {
  const auto context = std::make_shared<RankContext>(nullptr);
  const RankContextScope scope(context);
  EXPECT_EQ(RankContext::current(), context);
  EXPECT_EQ(error_of<InvalidArgument>([&] { context->group("tp"); }),
            "RankContext: this rank has no group called \"tp\"; it has none: "
            "call parallel_state::initialize_model_parallel first");
  const WorldPtr world =
      find_backend("self").make_local_worlds(1, kDefaultTimeout).front();
  const GroupPtr tp = world->make_group("tp", {0});
  context->add_group(tp);
  EXPECT_EQ(context->group("tp"), tp);
  EXPECT_EQ(context->find_group("dp"), nullptr);
  EXPECT_THAT(error_of<InvalidArgument>([&] { context->group("dp"); }),
              HasSubstr("it has \"tp\""));
  EXPECT_THAT(error_of<InvalidArgument>([&] { context->add_group(tp); }),
              HasSubstr("there is a group called \"tp\" already"));
  context->slot<int>() = 7;
  EXPECT_EQ(context->slot<int>(), 7);
  context->remove_groups();
  EXPECT_EQ(context->find_group("tp"), nullptr);
}

}  // namespace
}  // namespace colonnade

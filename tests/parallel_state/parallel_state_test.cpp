// tests/parallel_state/parallel_state_test.cpp
#include "colonnade/parallel_state/parallel_state.h"

#include "colonnade/comm/rank_context.h"
#include "colonnade/core/error.h"
#include "colonnade/launch/launch.h"

#include <ATen/ATen.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace colonnade::parallel_state {
namespace {

using testing::ElementsAre;
using testing::StrEq;
using testing::ThrowsMessage;

/// Runs `body` on a thread that is no rank and has a context of its own.
void outside_ranks(const std::function<void()>& body) {
  std::thread(body).join();
}

/// The world ranks of a group's members, as the group finds them.
std::vector<int64_t> members(const GroupPtr& group, int64_t world_rank) {
  const at::Tensor own = at::full({1}, world_rank, at::kLong);
  at::Tensor all = at::empty({group->size()}, at::kLong);
  group->all_gather(all, own);
  return {all.data_ptr<int64_t>(), all.data_ptr<int64_t>() + all.numel()};
}

TEST(ParallelState, EveryGetterAtEveryDegree) {
  for (int world_size : {1, 2, 3, 4, 6, 8}) {
    for (int64_t tp = 1; tp <= world_size; ++tp) {
      if (world_size % tp != 0) {
        continue;
      }
      run_ranks(world_size, [&](int rank) {
        EXPECT_FALSE(model_parallel_is_initialized());
        initialize_model_parallel(tp);
        EXPECT_TRUE(model_parallel_is_initialized());
        const Mesh mesh(world_size, tp);
        EXPECT_EQ(get_tensor_model_parallel_size(), tp);
        EXPECT_EQ(get_tensor_model_parallel_rank(), rank % tp);
        EXPECT_EQ(get_data_parallel_size(), world_size / tp);
        EXPECT_EQ(get_data_parallel_rank(), rank / tp);
        EXPECT_EQ(get_tensor_model_parallel_src_rank(), rank / tp * tp);
        EXPECT_EQ(get_data_parallel_src_rank(), rank % tp);
        const RankLists tp_lists = get_tensor_model_parallel_group_as_list();
        const RankLists dp_lists = get_data_parallel_group_as_list();
        EXPECT_EQ(tp_lists, mesh.tensor_model_parallel_groups());
        EXPECT_EQ(dp_lists, mesh.data_parallel_groups());

        EXPECT_EQ(members(get_tensor_model_parallel_group(), rank),
                  tp_lists[rank / tp]);
        EXPECT_EQ(members(get_data_parallel_group(), rank),
                  dp_lists[rank % tp]);
        EXPECT_EQ(members(get_world_group(), rank),
                  Mesh(world_size, 1).data_parallel_groups().front());
        const RankContext& context = *RankContext::current();
        EXPECT_EQ(context.group("tp"), get_tensor_model_parallel_group());
        EXPECT_EQ(context.group("dp"), get_data_parallel_group());
        EXPECT_EQ(context.group("world"), get_world_group());
      });
    }
  }
}

TEST(ParallelState, TheDefaultSizeIsOne) {
  run_ranks(2, [] {
    initialize_model_parallel();
    EXPECT_EQ(get_tensor_model_parallel_size(), 1);
    EXPECT_EQ(get_data_parallel_size(), 2);
  });
}

TEST(ParallelState, OutsideARankTheWorldIsOne) {
  outside_ranks([] {
    initialize_model_parallel();
    EXPECT_EQ(get_tensor_model_parallel_size(), 1);
    EXPECT_EQ(get_data_parallel_size(), 1);
    EXPECT_EQ(get_world_group()->size(), 1);
    at::Tensor x = at::ones({3});
    get_tensor_model_parallel_group()->all_reduce(x);
    EXPECT_TRUE(at::equal(x, at::ones({3})));
    destroy_model_parallel();
    EXPECT_EQ(RankContext::current()->world(), nullptr);
    run_ranks(2, [] { initialize_model_parallel(2); });
  });
}

TEST(ParallelState, OutsideARankMoreThanOneSaysHowToStartRanks) {
  outside_ranks([] {
    EXPECT_THAT([] { initialize_model_parallel(4); },
                ThrowsMessage<InvalidArgument>(
                    StrEq("Model parallel: tensor_model_parallel_size 4 does "
                          "not divide the world size 1; start a multiple of 4 "
                          "ranks: colonnade::run_ranks(4, …)")));
    EXPECT_FALSE(model_parallel_is_initialized());
    initialize_model_parallel(1);
    destroy_model_parallel();
  });
}

TEST(ParallelState, ASizeThatDoesNotFitIsRefusedOnEveryRank) {
  run_ranks(4, [] {
    EXPECT_THAT([] { initialize_model_parallel(3); },
                ThrowsMessage<InvalidArgument>(
                    StrEq("Model parallel: tensor_model_parallel_size 3 does "
                          "not divide the world size 4; start a multiple of 3 "
                          "ranks: colonnade::run_ranks(6, …)")));
    EXPECT_THAT([] { initialize_model_parallel(8); },
                ThrowsMessage<InvalidArgument>(
                    StrEq("Model parallel: tensor_model_parallel_size 8 does "
                          "not divide the world size 4; start a multiple of 8 "
                          "ranks: colonnade::run_ranks(8, …)")));
    EXPECT_THAT([] { initialize_model_parallel(-2); },
                ThrowsMessage<InvalidArgument>(
                    StrEq("Model parallel: tensor_model_parallel_size is -2 in "
                          "a world of size 4; it is at least 1, and above 1 it "
                          "needs as many ranks: colonnade::run_ranks(n, …)")));
    initialize_model_parallel(2);
    EXPECT_EQ(get_tensor_model_parallel_size(), 2);
  });
}

TEST(ParallelState, ASecondCallIsRefusedUntilDestroyed) {
  run_ranks(2, [](int rank) {
    initialize_model_parallel(2);
    EXPECT_THAT([] { initialize_model_parallel(1); },
                ThrowsMessage<InvalidArgument>(StrEq(
                    "initialize_model_parallel: already initialized with "
                    "tensor_model_parallel_size 2 in a world of size 2; call "
                    "destroy_model_parallel first to change it to 1")));
    EXPECT_EQ(get_tensor_model_parallel_size(), 2);
    for (const int64_t tp : {1, 2, 2}) {
      destroy_model_parallel();
      EXPECT_FALSE(model_parallel_is_initialized());
      EXPECT_EQ(RankContext::current()->find_group("tp"), nullptr);
      initialize_model_parallel(tp);
      EXPECT_EQ(get_tensor_model_parallel_size(), tp);
      EXPECT_EQ(members(get_tensor_model_parallel_group(), rank).size(),
                static_cast<size_t>(tp));
    }
    destroy_model_parallel();
    destroy_model_parallel();
  });
}

TEST(ParallelState, BeforeInitializeEveryGetterThrows) {
  const std::vector<std::pair<std::string, std::function<void()>>> getters{
      {"get_data_parallel_size", [] { get_data_parallel_size(); }},
      {"get_data_parallel_rank", [] { get_data_parallel_rank(); }},
      {"get_tensor_model_parallel_size",
       [] { get_tensor_model_parallel_size(); }},
      {"get_tensor_model_parallel_rank",
       [] { get_tensor_model_parallel_rank(); }},
      {"get_data_parallel_group", [] { get_data_parallel_group(); }},
      {"get_tensor_model_parallel_group",
       [] { get_tensor_model_parallel_group(); }},
      {"get_world_group", [] { get_world_group(); }},
      {"get_data_parallel_group_as_list",
       [] { get_data_parallel_group_as_list(); }},
      {"get_tensor_model_parallel_group_as_list",
       [] { get_tensor_model_parallel_group_as_list(); }},
      {"get_tensor_model_parallel_src_rank",
       [] { get_tensor_model_parallel_src_rank(); }},
      {"get_data_parallel_src_rank", [] { get_data_parallel_src_rank(); }},
      {"new_group", [] { new_group("pair", {0}); }},
  };
  const auto all_throw = [&] {
    for (const auto& [name, get] : getters) {
      EXPECT_THAT(
          get, ThrowsMessage<InvalidArgument>(StrEq(
                   name + ": model parallel is not initialized on this rank; "
                          "call initialize_model_parallel first")));
    }
  };
  outside_ranks(all_throw);
  run_ranks(2, [&] {
    all_throw();
    initialize_model_parallel(2);
    destroy_model_parallel();
    all_throw();
  });
}

TEST(NewGroup, MembersGetItAndOthersNull) {
  run_ranks(4, [](int rank) {
    initialize_model_parallel(2);
    const GroupPtr odd = new_group("odd", {1, 3});
    ASSERT_EQ(odd != nullptr, rank % 2 == 1);
    if (odd) {
      EXPECT_EQ(odd->name(), "odd");
      EXPECT_THAT(members(odd, rank), ElementsAre(1, 3));
      EXPECT_EQ(RankContext::current()->group("odd"), odd);
    }
    const GroupPtr everyone = new_group("everyone", {0, 1, 2, 3});
    EXPECT_THAT(members(everyone, rank), ElementsAre(0, 1, 2, 3));
    destroy_model_parallel();
    EXPECT_EQ(RankContext::current()->find_group("odd"), nullptr);
  });
}

TEST(NewGroup, RefusesWhatIsNoGroup) {
  const auto refuses = [](std::string name, std::vector<int64_t> ranks,
                          const std::string& message) {
    EXPECT_THAT([&] { new_group(name, ranks); },
                ThrowsMessage<InvalidArgument>(StrEq("new_group: " + message)));
  };
  run_ranks(2, [&] {
    initialize_model_parallel(2);
    refuses("", {0}, "the name is empty; give it one");
    refuses("tp", {0},
            "this rank has a group named \"tp\" already; choose another name");
    refuses("a", {}, "\"a\" has no ranks; name at least one of the world");
    refuses("a", {0, 2}, "\"a\" has rank 2; ranks of this world are in [0, 2)");
    refuses("a", {-1}, "\"a\" has rank -1; ranks of this world are in [0, 2)");
    refuses("a", {1, 0},
            "\"a\" has rank 0 after 1; give the ranks in ascending order");
    refuses("a", {1, 1},
            "\"a\" has rank 1 after 1; give the ranks in ascending order");
  });
}

}  // namespace
}  // namespace colonnade::parallel_state

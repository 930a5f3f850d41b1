// tests/parallel_state/mesh_test.cpp
#include "colonnade/parallel_state/mesh.h"

#include "colonnade/core/error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace colonnade {
namespace {

using testing::ElementsAre;
using testing::StrEq;
using testing::ThrowsMessage;

TEST(Mesh, FourRanksInPairs) {
  const Mesh mesh(4, 2);
  EXPECT_EQ(mesh.data_parallel_size(), 2);
  EXPECT_THAT(mesh.tensor_model_parallel_groups(),
              ElementsAre(ElementsAre(0, 1), ElementsAre(2, 3)));
  EXPECT_THAT(mesh.data_parallel_groups(),
              ElementsAre(ElementsAre(0, 2), ElementsAre(1, 3)));
}

TEST(Mesh, EveryRankIsInItsPlaceAtEveryDegree) {
  for (int64_t world_size = 1; world_size <= 8; ++world_size) {
    for (int64_t tp = 1; tp <= world_size; ++tp) {
      if (world_size % tp != 0) {
        EXPECT_THROW(Mesh(world_size, tp), InvalidArgument);
        continue;
      }
      const Mesh mesh(world_size, tp);
      const int64_t dp = world_size / tp;
      EXPECT_EQ(mesh.world_size(), world_size);
      EXPECT_EQ(mesh.tensor_model_parallel_size(), tp);
      EXPECT_EQ(mesh.data_parallel_size(), dp);
      const RankLists tp_groups = mesh.tensor_model_parallel_groups();
      const RankLists dp_groups = mesh.data_parallel_groups();
      ASSERT_EQ(tp_groups.size(), static_cast<size_t>(dp));
      ASSERT_EQ(dp_groups.size(), static_cast<size_t>(tp));
      for (int64_t rank = 0; rank < world_size; ++rank) {
        const int64_t tp_rank = mesh.tensor_model_parallel_rank(rank);
        const int64_t dp_rank = mesh.data_parallel_rank(rank);
        EXPECT_EQ(dp_rank * tp + tp_rank, rank);
        EXPECT_EQ(tp_groups[dp_rank].at(tp_rank), rank);
        EXPECT_EQ(dp_groups[tp_rank].at(dp_rank), rank);
        EXPECT_EQ(tp_groups[dp_rank].size(), static_cast<size_t>(tp));
        EXPECT_EQ(dp_groups[tp_rank].size(), static_cast<size_t>(dp));
      }
    }
  }
}

TEST(Mesh, SaysBothNumbersAndTheWayOut) {
  EXPECT_THAT([] { Mesh(4, 3); },
              ThrowsMessage<InvalidArgument>(
                  StrEq("Model parallel: tensor_model_parallel_size 3 does not "
                        "divide the world size 4; start a multiple of 3 ranks: "
                        "colonnade::run_ranks(6, …)")));
  EXPECT_THAT([] { Mesh(4, 0); },
              ThrowsMessage<InvalidArgument>(
                  StrEq("Model parallel: tensor_model_parallel_size is 0 in a "
                        "world of size 4; it is at least 1, and above 1 it "
                        "needs as many ranks: colonnade::run_ranks(n, …)")));
  EXPECT_THAT([] { Mesh(0, 1); },
              ThrowsMessage<InvalidArgument>(
                  StrEq("Model parallel: world_size is 0; it is at least 1")));
}

}  // namespace
}  // namespace colonnade

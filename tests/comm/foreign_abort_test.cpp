// tests/comm/foreign_abort_test.cpp
//
// Ranks whose world is aborted by a thread that is not theirs, during calls.
#include "colonnade/comm/backend.h"
#include "colonnade/comm/detail/nccl_group.h"
#include "colonnade/comm/world.h"
#include "colonnade/core/error.h"
#include "tests/comm/fake_nccl.h"
#include "tests/testing/error_of.h"
#include "tests/testing/file_rendezvous.h"
#include "tests/testing/temporary_folder.h"

#include <ATen/ATen.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace colonnade {
namespace {

using testing::StartsWith;

constexpr char kInterrupted[] = "rank 0 failed: interrupted";

GroupPtr group_of_two(World& world) {
  return world.make_group("two", {0, 1});
}

/// Both ranks' worlds over Gloo, made by two threads of this process.
std::array<WorldPtr, 2> gloo_worlds(const TemporaryFolder& folder) {
  std::array<WorldPtr, 2> worlds;
  const auto make = [&](int rank) {
    worlds[static_cast<size_t>(rank)] = find_backend("gloo").make_process_world(
        {rank, 2, "here", std::make_shared<FileRendezvous>(folder.path()),
         std::chrono::seconds(60)});
  };
  std::thread other([&] { make(1); });
  make(0);
  other.join();
  return worlds;
}

/// Runs `body` on a thread, for `for_ms`, then aborts rank 0's world beside it.
std::string error_of_aborted(World& world, int for_ms,
                             const std::function<void()>& body) {
  std::string text;
  std::thread rank([&] { text = error_of<CommError>(body); });
  std::this_thread::sleep_for(std::chrono::milliseconds(for_ms));
  world.abort("interrupted");
  rank.join();
  return text;
}

TEST(ForeignAbort, EndsAWaitOverMessages) {
  for (int turn = 0; turn < 10; ++turn) {
    const TemporaryFolder folder;
    const auto worlds = gloo_worlds(folder);
    const GroupPtr group = group_of_two(*worlds[0]);
    at::Tensor x = at::zeros({10000});
    EXPECT_THAT(
        error_of_aborted(*worlds[0], turn * 10, [&] { group->all_reduce(x); }),
        StartsWith(kInterrupted));
    EXPECT_THAT(error_of<CommError>([&] { group->barrier(); }),
                StartsWith(kInterrupted));
    EXPECT_THAT(
        error_of<CommError>([&] { group_of_two(*worlds[1])->barrier(); }),
        StartsWith(kInterrupted));
  }
}

TEST(ForeignAbort, EndsCallsOverMessages) {
  for (int turn = 0; turn < 10; ++turn) {
    const TemporaryFolder folder;
    const auto worlds = gloo_worlds(folder);
    const auto sum_for_ever = [](World& world) {
      const GroupPtr group = group_of_two(world);
      at::Tensor x = at::zeros({10000});
      for (;;) {
        group->all_reduce(x);
      }
    };
    std::string other_text;
    std::thread other([&] {
      other_text = error_of<CommError>([&] { sum_for_ever(*worlds[1]); });
    });
    EXPECT_THAT(error_of_aborted(*worlds[0], 5 + turn,
                                 [&] { sum_for_ever(*worlds[0]); }),
                StartsWith(kInterrupted));
    other.join();
    EXPECT_THAT(other_text, StartsWith(kInterrupted));
  }
}

TEST(ForeignAbort, ReachesThePeersOfARankThatMakesNoCall) {
  const TemporaryFolder folder;
  const auto worlds = gloo_worlds(folder);
  const GroupPtr group = group_of_two(*worlds[1]);
  std::string text;
  std::thread other(
      [&] { text = error_of<CommError>([&] { group->barrier(); }); });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  worlds[0]->abort("interrupted");
  other.join();
  EXPECT_THAT(text, StartsWith(kInterrupted));
}

TEST(ForeignAbort, EndsAWaitForADevice) {
  FakeNccl::state().reset();
  std::array<std::shared_ptr<detail::NcclWorld>, 2> over;
  std::array<std::string, 2> texts;
  std::array<std::thread, 2> ranks;
  const std::vector<WorldPtr> hosts =
      find_backend("threads").make_local_worlds(2, std::chrono::seconds(60));
  for (size_t rank = 0; rank < 2; ++rank) {
    over[rank] = std::make_shared<detail::NcclWorld>(hosts[rank], fake_nccl(),
                                                     at::kCPU, fake_queue);
    ranks[rank] = std::thread([&, rank] {
      const GroupPtr group = detail::make_nccl_group(
          over[rank], hosts[rank]->make_group("two", {0, 1}));
      at::Tensor x = at::zeros({2});
      group->all_reduce(x);
      group->barrier();
      FakeNccl::state().is_stuck = true;
      texts[rank] = error_of<CommError>([&] { group->all_reduce(x); });
    });
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  over[0]->abort("interrupted");
  for (size_t rank = 0; rank < 2; ++rank) {
    ranks[rank].join();
    EXPECT_THAT(texts[rank], StartsWith(kInterrupted));
  }
  EXPECT_EQ(FakeNccl::state().aborted, 2);
}

}  // namespace
}  // namespace colonnade

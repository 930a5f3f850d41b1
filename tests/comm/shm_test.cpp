// tests/comm/shm_test.cpp
#include "colonnade/comm/exchange.h"
#include "colonnade/comm/group.h"
#include "colonnade/comm/world.h"
#include "colonnade/core/error.h"
#include "tests/comm/check_collectives.h"
#include "tests/comm/process_ranks.h"
#include "tests/testing/error_of.h"
#include "tests/testing/file_rendezvous.h"
#include "tests/testing/temporary_folder.h"

#include <ATen/ATen.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <filesystem>
#include <iterator>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace colonnade {
namespace {

using std::chrono::milliseconds;
using testing::AllOf;
using testing::HasSubstr;
using testing::MatchesRegex;

constexpr char kSameOrder[] =
    "; all ranks must make the same calls in the same order";

void expect_all(const std::vector<std::string>& texts,
                const std::string& want) {
  for (size_t rank = 0; rank < texts.size(); ++rank) {
    EXPECT_EQ(texts[rank], want) << "on rank " << rank;
  }
}

class ShmCollectives : public testing::TestWithParam<at::ScalarType> {};

TEST_P(ShmCollectives, MatchOneThread) {
  for (const int size : {1, 2, 3, 4}) {
    expect_all(
        run_processes(
            size,
            [](World& world) {
              const GroupPtr group = group_of_all(world);
              // Around a slot's, a one-shot's, a chunk's size.
              for (const int64_t n : {0, 1, 7, 511, 1025, 4097, 20003, 70001}) {
                check_collectives(*group, n, GetParam());
              }
            }),
        "");
  }
}

TEST_P(ShmCollectives, MatchOneThreadWhenLarge) {
  for (const int size : {2, 3}) {
    expect_all(run_processes(size,
                             [](World& world) {
                               check_collectives(*group_of_all(world),
                                                 (1 << 20) + 3, GetParam());
                             }),
               "");
  }
}

TEST_P(ShmCollectives, MatchOneThreadOnSubgroups) {
  expect_all(
      run_processes(
          4,
          [](World& world) {
            const int64_t rank = world.rank();
            const GroupPtr row =
                world.make_group("row", {rank / 2 * 2, rank / 2 * 2 + 1});
            const GroupPtr column =
                world.make_group("column", {rank % 2, rank % 2 + 2});
            const GroupPtr alone = world.make_group("alone", {rank});
            const GroupPtr all = group_of_all(world);
            const GroupPtr again = group_of_all(world);
            for (const int64_t n : {3, 3000, 40000}) {  // interleaved
              for (const GroupPtr& group : {row, all, column, again, alone}) {
                check_collectives(*group, n, GetParam());
              }
            }
            if (rank > 0) {
              check_collectives(*world.make_group("most", {1, 2, 3}), 2000,
                                GetParam());
            }
          }),
      "");
}

INSTANTIATE_TEST_SUITE_P(Dtypes, ShmCollectives,
                         testing::Values(at::kFloat, at::kDouble, at::kHalf,
                                         at::kBFloat16, at::kLong, at::kBool),
                         [](const auto& param) {
                           return std::string(at::toString(param.param));
                         });

TEST(Shm, GroupsComeAndGo) {
  expect_all(
      run_processes(3,
                    [](World& world) {
                      for (int i = 0; i < 200; ++i) {
                        const GroupPtr group = group_of_all(world);
                        at::Tensor x = at::ones({3000});
                        group->all_reduce(x);
                        EXPECT_EQ(x[0].item<float>(), 3);
                      }
                      const auto files =
                          std::filesystem::directory_iterator("/proc/self/fd");
                      EXPECT_LT(std::distance(begin(files), end(files)), 50);
                    }),
      "");
}

TEST(Shm, BytesAreExchanged) {
  expect_all(run_processes(3,
                           [](World& world) {
                             const GroupPtr group = group_of_all(world);
                             const std::string mine(
                                 static_cast<size_t>(world.rank()) * 5000, 'a');
                             const std::vector<std::string> all =
                                 all_gather_bytes(*group, mine);
                             for (size_t i = 0; i < all.size(); ++i) {
                               EXPECT_EQ(all[i], std::string(i * 5000, 'a'));
                             }
                           }),
             "");
}

TEST(Shm, DisagreementsAreShownOnEveryRank) {
  expect_all(
      run_processes(3,
                    [](World& world) {
                      const GroupPtr group = group_of_all(world);
                      group->barrier();
                      at::Tensor x = at::zeros({2, world.rank() == 1 ? 5 : 4});
                      group->all_reduce(x);
                    }),
      concat("rank 1 made another call than the rest in call 2 of group "
             "\"all\": rank 1 called all_reduce(float32 [2, 5], sum) but ranks "
             "0 and 2 called all_reduce(float32 [2, 4], sum)",
             kSameOrder));
  expect_all(
      run_processes(2,
                    [](World& world) {  // both too large for a slot
                      const GroupPtr group = group_of_all(world);
                      at::Tensor x = at::zeros({200000 + world.rank()});
                      if (world.rank() == 0) {
                        group->all_reduce(x);
                      } else {
                        group->broadcast(x, 0);
                      }
                    }),
      concat("ranks 0 and 1 did not make the same call in call 1 of group "
             "\"all\": rank 0 called all_reduce(float32 [200000], sum) but "
             "rank 1 called broadcast(float32 [200001], root 0)",
             kSameOrder));
  expect_all(
      run_processes(2,
                    [](World& world) {
                      const GroupPtr group = group_of_all(world);
                      at::Tensor x = at::zeros({world.rank() == 0 ? 4 : 5});
                      world.rank() == 0 ? group->send(x, 1) : group->recv(x, 0);
                    }),
      concat("ranks 0 and 1 did not make the same call in call 1 of group "
             "\"all\": rank 0 called send(float32 [4], dst 1) but rank 1 "
             "called recv(float32 [5], src 0)",
             kSameOrder));
}

TEST(Shm, CirclesOfWaitsAreFound) {
  expect_all(run_processes(2,
                           [](World& world) {
                             group_of_all(world)->send(at::zeros({1}),
                                                       1 - world.rank());
                           }),
             concat("ranks wait for each other: rank 0 waits in send(float32 "
                    "[1], dst 1), call 1 of group \"all\"; rank 1 waits in "
                    "send(float32 [1], dst 0), call 1 of group \"all\"",
                    kSameOrder));
  for (const std::string& text : run_processes(3, [](World& world) {
         const GroupPtr all = group_of_all(world);
         const GroupPtr other = group_of_all(world, "other");
         world.rank() == 1 ? other->barrier() : all->barrier();
       })) {
    EXPECT_THAT(text, AllOf(HasSubstr("ranks wait for each other: rank "),
                            HasSubstr("rank 1 waits in barrier(), call 1 of "
                                      "group \"other\"")));
  }
}

TEST(Shm, ARankThatThrowsWakesTheOthers) {
  const std::vector<std::string> texts = run_processes(3, [](World& world) {
    const GroupPtr group = group_of_all(world);
    const GroupPtr pair =
        world.rank() == 1 ? nullptr : world.make_group("pair", {0, 2});
    group->barrier();
    if (world.rank() == 1) {
      std::this_thread::sleep_for(milliseconds(20));
      throw std::length_error("the cause");
    }
    for (int i = 2; i <= 3; ++i) {
      EXPECT_EQ(error_of<CommError>([&] { group->barrier(); }),
                concat("rank 1 failed: the cause; rank ", world.rank(),
                       " was in barrier(), call ", i,
                       " of group \"all\" (ranks 0, 1 and 2)"));
    }
    EXPECT_EQ(error_of<CommError>([&] { pair->barrier(); }),
              concat("rank 1 failed: the cause; rank ", world.rank(),
                     " was in barrier(), call 1 of group \"pair\" (ranks 0 and "
                     "2)"));
    EXPECT_EQ(error_of<CommError>([&] { group_of_all(world); }),
              "rank 1 failed: the cause");
  });
  expect_all(texts, "");
}

TEST(Shm, ARankThatReturnsWakesWhoWaitsForIt) {
  for (const int pause_ms : {0, 20}) {
    const std::vector<std::string> texts = run_processes(3, [&](World& world) {
      const GroupPtr group = group_of_all(world);
      if (world.rank() == 1) {
        std::this_thread::sleep_for(milliseconds(pause_ms));
        return;
      }
      group->barrier();
    });
    EXPECT_EQ(texts[0], texts[2]);
    EXPECT_EQ(texts[1], "");
    EXPECT_THAT(texts[0],
                MatchesRegex("rank 1 has returned, but rank [02] waits for it "
                             "in barrier\\(\\), call 1 of group \"all\"; all "
                             "ranks must make the same calls"));
  }
}

TEST(Shm, ARankMayReturnWhenNobodyWaitsForIt) {
  expect_all(
      run_processes(3,
                    [](World& world) {
                      group_of_all(world)->barrier();
                      if (world.rank() == 0) {
                        return;
                      }
                      std::this_thread::sleep_for(milliseconds(100));
                      const GroupPtr pair = world.make_group("pair", {1, 2});
                      for (int i = 0; i < 100; ++i) {
                        pair->barrier();
                      }
                    }),
      "");
}

TEST(Shm, ATimeoutNamesWhoDidNotCome) {
  const std::vector<std::string> texts = run_processes(3, [](World& world) {
    const GroupPtr group = group_of_all(world);
    group->barrier();
    group->set_timeout(milliseconds(500));
    if (world.rank() == 1) {
      std::this_thread::sleep_for(milliseconds(1500));
    }
    at::Tensor x = at::zeros({4});
    group->all_reduce(x);
  });
  expect_all(texts, texts[0]);
  EXPECT_THAT(texts[0],
              MatchesRegex("rank [02] waited 500 ms in all_reduce\\(float32 "
                           "\\[4\\], sum\\), call 2 of group \"all\", for rank "
                           "1, which did not come"));
}

TEST(Shm, AGroupThatIsNotMadeEverywhereTimesOut) {
  const std::vector<std::string> texts = run_processes(
      3,
      [](World& world) {
        group_of_all(world)->barrier();
        if (world.rank() == 1) {
          std::this_thread::sleep_for(std::chrono::seconds(5));
        }
        group_of_all(world);
      },
      std::chrono::seconds(3));
  expect_all(texts, texts[0]);
  EXPECT_THAT(texts[0],
              MatchesRegex("rank [02] waited 3000 ms in make_group of group "
                           "\"all\" for rank 1, which did not come"));
}

/// Calls of all kinds and sizes until one fails.
void call_for_ever(World& world) {
  const GroupPtr all = group_of_all(world);
  all->set_timeout(std::chrono::seconds(60));
  const int64_t size = world.size();
  at::Tensor small = at::zeros({8});
  at::Tensor large = at::zeros({300000});
  at::Tensor gathered = at::empty({size, 30000});
  while (true) {
    all->all_reduce(small);
    all->all_reduce(large);
    all->all_gather(gathered, large.narrow(0, 0, 30000));
    all->barrier();
    if (world.rank() == 0) {
      all->send(large, 1);
    } else if (world.rank() == 1) {
      all->recv(large, 0);
    }
  }
}

TEST(Shm, ARankThatIsStoppedIsNamed) {
  ProcessRanks ranks(3, call_for_ever);
  ranks.wait_until_they_run();
  std::this_thread::sleep_for(milliseconds(100));
  ranks.signal(2, SIGSTOP);
  std::this_thread::sleep_for(milliseconds(2500));
  ranks.signal(2, SIGCONT);
  for (const std::string& text : ranks.wait()) {
    EXPECT_THAT(text, MatchesRegex(concat(
                          "rank 2 \\(process ", ranks.pid(2),
                          "\\) has been stopped by a signal (in|after) "
                          "[a-z_]+\\(.*\\), call [0-9]+ of group \"all\".*")));
  }
}

TEST(Shm, ARankThatIsStoppedForAMomentIsWaitedFor) {
  ProcessRanks ranks(2, [](World& world) {
    const GroupPtr all = group_of_all(world);
    for (int i = 0; i < 20; ++i) {
      std::this_thread::sleep_for(milliseconds(30));
      all->barrier();
    }
  });
  ranks.wait_until_they_run();
  ranks.signal(1, SIGSTOP);
  std::this_thread::sleep_for(milliseconds(300));
  ranks.signal(1, SIGCONT);
  expect_all(ranks.wait(), "");
}

TEST(Shm, ALookFindsARankThatIsKilled) {
  ProcessRanks ranks(2, [](World& world) {
    group_of_all(world)->barrier();
    while (true) {
      if (world.rank() == 0) {
        world.look();
      }
      std::this_thread::sleep_for(milliseconds(20));
    }
  });
  ranks.wait_until_they_run();
  ranks.signal(1, SIGKILL);
  EXPECT_THAT(
      ranks.wait(std::chrono::seconds(10))[0],
      testing::StartsWith(concat("rank 1 (process ", ranks.pid(1), ") died ")));
}

TEST(Shm, ARankThatIsKilledIsNamedByAllOthers) {
  std::mt19937 dice(7);  // NOLINT(cert-msc32-c,cert-msc51-cpp): repeatable
  for (int run = 0; run < 40 && !testing::Test::HasFailure(); ++run) {
    const int size = 2 + run % 3;
    const auto dead = static_cast<int>(dice() % static_cast<unsigned>(size));
    ProcessRanks ranks(size, call_for_ever);
    ranks.wait_until_they_run();
    std::this_thread::sleep_for(std::chrono::microseconds(dice() % 50000));
    ranks.signal(dead, SIGKILL);
    const std::vector<std::string> texts = ranks.wait(std::chrono::seconds(10));
    for (int rank = 0; rank < size; ++rank) {
      if (rank != dead) {
        EXPECT_THAT(
            texts[static_cast<size_t>(rank)],
            MatchesRegex(concat(
                "rank ", dead, " \\(process ", ranks.pid(dead),
                "\\) died( \\(signal 9\\))? (before its first call|(in|after) "
                "[a-z_]+\\(.*\\), call [0-9]+ of group \"all\")(; rank ",
                rank,
                " was in [a-z_]+\\(.*\\), call [0-9]+ of group "
                "\"all\" \\(ranks 0.*\\))?")))
            << "on rank " << rank << " of " << size << ", run " << run;
      }
    }
  }
}

TEST(Shm, ARankThatNeverComesEndsTheOthers) {
  ProcessRanks ranks(
      3, [](World&) {}, std::chrono::seconds(2));
  ranks.signal(1, SIGSTOP);
  std::this_thread::sleep_for(std::chrono::seconds(3));
  ranks.signal(1, SIGCONT);
  for (const std::string& text : ranks.wait()) {
    // It may have come before it was stopped.
    EXPECT_THAT(text, testing::AnyOf("", HasSubstr("waited 2000 ms for rank")));
  }
}

/// The memory in /dev/shm that has a name of ours.
std::vector<std::string> named_memory() {
  std::vector<std::string> names;
  for (const auto& file : std::filesystem::directory_iterator("/dev/shm")) {
    const std::string name = file.path().filename().string();
    if (name.starts_with("colonnade")) {
      names.push_back(name);
    }
  }
  return names;
}

TEST(Shm, NothingStaysBehind) {
  const std::vector<std::string> before = named_memory();
  ProcessRanks ranks(2, call_for_ever);
  ranks.wait_until_they_run();
  ranks.signal(1, SIGKILL);
  ranks.wait();
  EXPECT_EQ(named_memory(), before);
}

/// Of processes that may not look into each other's folder of /proc.
class NoProcRendezvous final : public Rendezvous {
 public:
  void set(const std::string& name, std::string_view value) override {
    files_.set(name, name == "shm/memory" ? "here\n/proc/0/fd/0 1" : value);
  }
  std::string get(const std::string& name, milliseconds timeout) override {
    return files_.get(name, timeout);
  }

 private:
  TemporaryFolder folder_;
  FileRendezvous files_{folder_.path()};
};

TEST(Shm, MemoryHasANameWhereItMust) {
  const std::vector<std::string> before = named_memory();
  ProcessRanks ranks(
      3,
      [&](World& world) {
        const GroupPtr group = group_of_all(world);
        check_collectives(*group, 50000, at::kFloat);
        EXPECT_EQ(named_memory(), before);
      },
      std::chrono::seconds(20), std::make_shared<NoProcRendezvous>());
  expect_all(ranks.wait(), "");
}

TEST(Shm, RanksOfTwoHostsAreRefused) {
  class TwoHosts final : public Rendezvous {
   public:
    void set(const std::string& name, std::string_view value) override {
      std::string text(value);
      if (name.ends_with("/memory")) {
        text.insert(0, "not ");
      }
      files_.set(name, text);
    }
    std::string get(const std::string& name, milliseconds timeout) override {
      return files_.get(name, timeout);
    }

   private:
    TemporaryFolder folder_;
    FileRendezvous files_{folder_.path()};
  };
  ProcessRanks ranks(
      2, [](World&) {}, std::chrono::seconds(20), std::make_shared<TwoHosts>());
  expect_all(ranks.wait(),
             "shm: the ranks cannot share memory: rank 1: it is on host here, "
             "and rank 0 on not here; run them on one host as one user, or "
             "name the backend gloo");
}

}  // namespace
}  // namespace colonnade

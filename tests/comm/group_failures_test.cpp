// tests/comm/group_failures_test.cpp
#include "colonnade/comm/group.h"
#include "colonnade/comm/rank_context.h"
#include "colonnade/comm/world.h"
#include "colonnade/core/error.h"
#include "colonnade/launch/launch.h"
#include "tests/comm/world_group.h"
#include "tests/testing/error_of.h"

#include <ATen/ATen.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace colonnade {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

/// The text of the CommError that each of `n` ranks got from `body(rank,
/// group)`; empty where a rank got none.
template <typename Body>
std::vector<std::string> errors_of(int n, Body body) {
  std::vector<std::string> texts(static_cast<size_t>(n));
  run_ranks(n, [&](int rank) {
    try {
      body(rank, *make_world_group());
    } catch (const CommError& error) {
      texts[static_cast<size_t>(rank)] = error.what();
    }
  });
  return texts;
}

void expect_all(const std::vector<std::string>& texts,
                const std::string& want) {
  for (size_t rank = 0; rank < texts.size(); ++rank) {
    EXPECT_EQ(texts[rank], want) << "on rank " << rank;
  }
}

constexpr char kSameOrder[] =
    "; all ranks must make the same calls in the same order";

TEST(GroupFailures, OddOneOutIsNamed) {
  for (const int n : {3, 4}) {
    const std::string others = n == 3 ? "ranks 0 and 2" : "ranks 0, 2 and 3";
    expect_all(errors_of(n,
                         [](int rank, Group& group) {
                           group.barrier();
                           at::Tensor x = at::zeros({2, rank == 1 ? 5 : 4});
                           group.all_reduce(x);
                         }),
               "rank 1 made another call than the rest in call 2 of group "
               "\"all\": rank 1 called all_reduce(float32 [2, 5], sum) but " +
                   others + " called all_reduce(float32 [2, 4], sum)" +
                   kSameOrder);
  }
}

TEST(GroupFailures, WhoCallsAgainLeavesTheOthersTheirError) {
  for (int turn = 0; turn < 200; ++turn) {
    expect_all(
        errors_of(3,
                  [](int rank, Group& group) {
                    at::Tensor x = at::zeros({rank == 1 ? 5 : 4});
                    const std::string first =
                        error_of<CommError>([&] { group.all_reduce(x); });
                    EXPECT_THAT(error_of<CommError>([&] { group.barrier(); }),
                                HasSubstr(first));
                    throw CommError(first);
                  }),
        std::string("rank 1 made another call than the rest in call 1 "
                    "of group \"all\": rank 1 called all_reduce("
                    "float32 [5], sum) but ranks 0 and 2 called "
                    "all_reduce(float32 [4], sum)") +
            kSameOrder);
  }
}

TEST(GroupFailures, BothOfTwoAreNamed) {
  expect_all(errors_of(2,
                       [](int rank, Group& group) {
                         at::Tensor x = at::zeros({4});
                         if (rank == 0) {
                           group.all_reduce(x);
                         } else {
                           group.broadcast(x, 0);
                         }
                       }),
             std::string("ranks 0 and 1 did not make the same call in call 1 "
                         "of group \"all\": rank 0 called all_reduce(float32 "
                         "[4], sum) but rank 1 called broadcast(float32 [4], "
                         "root 0)") +
                 kSameOrder);
}

TEST(GroupFailures, HalvesAreBothShown) {
  for (const std::string& text : errors_of(4, [](int rank, Group&group) {
         at::Tensor x = at::zeros({4}, rank < 2 ? at::kFloat : at::kDouble);
         group.all_reduce(x);
       })) {
    EXPECT_THAT(text,
                AllOf(HasSubstr("ranks 0, 1, 2 and 3 did not make the same "
                                "call"),
                      HasSubstr("ranks 0 and 1 called all_reduce(float32 [4]"),
                      HasSubstr("ranks 2 and 3 called all_reduce(float64 "
                                "[4]")));
  }
}

TEST(GroupFailures, EveryKindOfDisagreementIsFound) {
  using Calls = void (*)(int rank, Group& group);
  const Calls kinds[] = {
      // shape with as many elements; then too large for a slot
      [](int rank, Group& group) {
        at::Tensor x = rank == 0 ? at::zeros({2, 3}) : at::zeros({3, 2});
        group.all_reduce(x);
      },
      [](int rank, Group& group) {
        at::Tensor x = at::zeros({rank == 0 ? 5000 : 6000});
        group.all_reduce(x);
      },
      [](int rank, Group& group) {  // dtype
        at::Tensor x = at::zeros({3}, rank == 0 ? at::kHalf : at::kBFloat16);
        group.broadcast(x, 0);
      },
      [](int rank, Group& group) {  // root
        at::Tensor x = at::zeros({3});
        group.broadcast(x, rank == 0 ? 0 : 1);
      },
      [](int rank, Group& group) {  // how to combine
        at::Tensor x = at::zeros({3});
        group.all_reduce(x, rank == 0 ? ReduceOp::kMax : ReduceOp::kMin);
      },
      [](int rank, Group& group) {  // order
        at::Tensor x = at::zeros({3});
        if (rank == 0) {
          group.barrier();
          group.all_reduce(x);
        } else {
          group.all_reduce(x);
          group.barrier();
        }
      },
  };
  for (const Calls calls : kinds) {
    for (const int n : {2, 3, 4}) {
      const std::vector<std::string> texts = errors_of(n, calls);
      expect_all(texts, texts[0]);
      EXPECT_THAT(texts[0],
                  HasSubstr(n == 2 ? "ranks 0 and 1 did not" : "rank 0 made"));
    }
  }
}

TEST(GroupFailures, SendAndRecvMustAgree) {
  expect_all(
      errors_of(2,
                [](int rank, Group& group) {
                  at::Tensor x = at::zeros({rank == 0 ? 4 : 5});
                  rank == 0 ? group.send(x, 1) : group.recv(x, 0);
                }),
      std::string("ranks 0 and 1 did not make the same call in call 1 of group "
                  "\"all\": rank 0 called send(float32 [4], dst 1) but rank 1 "
                  "called recv(float32 [5], src 0)") +
          kSameOrder);
}

TEST(GroupFailures, CirclesOfWaitsAreFound) {
  expect_all(
      errors_of(2, [](int rank,
                      Group& group) { group.send(at::zeros({1}), 1 - rank); }),
      std::string("ranks wait for each other: rank 0 waits in "
                  "send(float32 [1], dst 1), call 1 of group \"all\"; "
                  "rank 1 waits in send(float32 [1], dst 0), call 1 of "
                  "group \"all\"") +
          kSameOrder);
  for (const std::string& text : errors_of(3, [](int rank, Group&all) {
         const GroupPtr other = make_group({0, 1, 2}, "other");
         rank == 1 ? other->barrier() : all.barrier();
       })) {
    // Whether the third is named too depends on who came first.
    EXPECT_THAT(text, AllOf(HasSubstr("ranks wait for each other: rank "),
                            HasSubstr("rank 1 waits in barrier(), call 1 of "
                                      "group \"other\""),
                            HasSubstr(" waits in barrier(), call 1 of group "
                                      "\"all\"")));
  }
}

TEST(GroupFailures, ARankThatThrowsWakesTheOthers) {
  for (const int n : {2, 4}) {
    std::vector<std::string> texts(static_cast<size_t>(n));
    EXPECT_EQ(
        error_of<std::length_error>([&] {
          run_ranks(n, [&](int rank) {
            const GroupPtr group = make_world_group();
            const GroupPtr later = make_group(group->ranks(), "later");
            if (rank == 1) {
              std::this_thread::sleep_for(std::chrono::milliseconds(20));
              throw std::length_error("the cause");
            }
            // In a call, at the next, and in another group.
            for (int i = 1; i <= 2; ++i) {
              EXPECT_EQ(
                  error_of<CommError>([&] { group->barrier(); }),
                  concat("rank 1 failed: the cause; rank ", rank,
                         " was in barrier(), call ", i, " of group \"all\" (",
                         n == 2 ? "ranks 0 and 1)" : "ranks 0, 1, 2 and 3)"));
            }
            EXPECT_THAT(
                error_of<CommError>([&] { later->barrier(); }),
                StartsWith(concat("rank 1 failed: the cause; rank ", rank,
                                  " was in barrier(), call 1 of group "
                                  "\"later\" (")));
            EXPECT_EQ(error_of<CommError>([&] { make_world_group(); }),
                      "rank 1 failed: the cause");
          });
        }),
        "the cause");
  }
}

TEST(GroupFailures, ARankThatReturnsWakesWhoWaitsForIt) {
  for (const int pause_ms : {0, 20}) {
    const std::vector<std::string> texts =
        errors_of(3, [&](int rank, Group& group) {
          at::Tensor x = at::zeros({4});
          if (rank != 1) {
            group.all_reduce(x);
          } else {
            std::this_thread::sleep_for(std::chrono::milliseconds(pause_ms));
          }
        });
    EXPECT_EQ(texts[0], texts[2]);
    EXPECT_EQ(texts[1], "");
    EXPECT_THAT(texts[0],
                testing::MatchesRegex(
                    "rank 1 has returned, but rank [02] waits for it in "
                    "all_reduce\\(float32 \\[4\\], sum\\), call 1 of group "
                    "\"all\"; all ranks must make the same calls"));
  }
}

TEST(GroupFailures, ARankMayReturnWhenNobodyWaitsForIt) {
  run_ranks(3, [](int rank) {
    make_world_group()->barrier();
    if (rank == 0) {
      return;
    }
    const GroupPtr pair = make_group({1, 2}, "pair");
    for (int i = 0; i < 100; ++i) {
      pair->barrier();
    }
  });
}

TEST(GroupFailures, ASendToARankThatReturnedFails) {
  const std::vector<std::string> texts =
      errors_of(2, [](int rank, Group& group) {
        if (rank == 0) {
          group.send(at::zeros({2}), 1);
        }
      });
  EXPECT_EQ(
      texts[0],
      "rank 1 has returned, but rank 0 waits for it in send(float32 [2], "
      "dst 1), call 1 of group \"all\"; all ranks must make the same calls");
}

TEST(GroupFailures, ARankThatRestsWakesWhoWaitsForItInThatCall) {
  for (const int pause_ms : {0, 20}) {
    std::atomic<bool> told = false;
    run_ranks(2, [&](int rank) {
      const GroupPtr group = make_world_group();
      group->set_timeout(std::chrono::seconds(10));
      World& world = *RankContext::current()->world();
      if (rank == 0) {
        world.begin_call(7);
      }
      group->barrier();
      if (rank == 1) {
        world.rest(6);  // says so late: call 7 has begun
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      }
      group->barrier();
      if (rank == 1) {
        std::this_thread::sleep_for(std::chrono::milliseconds(pause_ms));
        world.rest(7);
        while (!told) {  // has not left
          std::this_thread::yield();
        }
      } else {
        EXPECT_EQ(error_of<CommError>([&] { group->barrier(); }),
                  "rank 1 has returned, but rank 0 waits for it in "
                  "barrier(), call 3 of group \"all\"; all ranks must make the "
                  "same calls");
        told = true;
      }
    });
  }
}

TEST(GroupFailures, ATimeoutNamesWhoDidNotCome) {
  const std::vector<std::string> texts =
      errors_of(3, [](int rank, Group& group) {
        group.set_timeout(std::chrono::milliseconds(30));
        if (rank == 1) {
          std::this_thread::sleep_for(std::chrono::milliseconds(300));
        }
        at::Tensor x = at::zeros({4});
        group.all_reduce(x);
      });
  expect_all(texts, texts[0]);
  EXPECT_THAT(texts[0],
              testing::MatchesRegex(
                  "rank [02] waited 30 ms in all_reduce\\(float32 \\[4\\], "
                  "sum\\), call 1 of group \"all\", for rank 1, which did not "
                  "come"));
}

TEST(GroupFailures, AnyTimeoutCanBeGiven) {
  run_ranks(2, [](int rank) {
    const GroupPtr group = make_world_group();
    group->set_timeout(std::chrono::milliseconds::max());
    EXPECT_EQ(group->timeout(), kLongestTimeout);
    if (rank == 1) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    group->barrier();
  });
}

TEST(GroupFailures, RanksThatGiveTheSameMemoryAreTold) {
  for (const int64_t n : {4, 4000}) {
    at::Tensor shared = at::zeros({n});
    const std::vector<std::string> texts = errors_of(2, [&](int, Group& group) {
      at::Tensor x = shared.view({n});
      group.all_reduce(x);
    });
    expect_all(texts, concat("ranks 0 and 1 gave the same memory to "
                             "all_reduce(float32 [",
                             n,
                             "], sum), call 1 of group \"all\"; each needs a "
                             "tensor of its own"));
  }
}

// A rank that fails while peers use its memory must not give it back: the
// sanitizers see it if it does.
TEST(GroupFailures, NobodyReadsWhatARankThatFailedGaveBack) {
  for (int i = 0; i < 50; ++i) {
    EXPECT_THROW(run_ranks(4,
                           [i](int rank) {
                             const GroupPtr group = make_world_group();
                             for (int step = 0; step < 5; ++step) {
                               at::Tensor x = at::ones({20000 + step});
                               group->all_reduce(x);
                               if (rank == i % 4 && step == i % 5) {
                                 throw std::runtime_error("stop");
                               }
                             }
                           }),
                 std::runtime_error);
  }
}

}  // namespace
}  // namespace colonnade

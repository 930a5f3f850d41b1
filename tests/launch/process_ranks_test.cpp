// tests/launch/process_ranks_test.cpp
#include "colonnade/comm/process_rendezvous.h"
#include "colonnade/core/error.h"
#include "tests/launch/rank_processes.h"
#include "tests/testing/error_of.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <barrier>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace colonnade {
namespace {

using testing::AllOf;
using testing::HasSubstr;

using Launcher = std::function<Variables(int rank, int size)>;

Variables mpirun(int rank, int size) {
  return {{"OMPI_COMM_WORLD_RANK", std::to_string(rank)},
          {"OMPI_COMM_WORLD_SIZE", std::to_string(size)},
          {"OMPI_COMM_WORLD_LOCAL_SIZE", std::to_string(size)}};
}

/// Each rank has the file error<rank>.json in the folder of `ranks`.
Launcher mpirun_with_error_files(const RankProcesses& ranks) {
  return [&](int rank, int size) {
    Variables variables = mpirun(rank, size);
    variables["TORCHELASTIC_ERROR_FILE"] =
        ranks.folder().path() / concat("error", rank, ".json");
    return variables;
  };
}

Variables srun(int rank, int size) {
  return {{"SLURM_PROCID", std::to_string(rank)},
          {"SLURM_STEP_NUM_TASKS", std::to_string(size)},
          {"SLURM_STEP_NUM_NODES", "1"},
          {"SLURM_STEP_NODELIST", "localhost"},
          {"SLURM_JOB_ID", std::to_string(getpid())},
          {"SLURM_STEP_ID", "0"}};
}

/// As if of two hosts, so that the ranks meet over TCP.
Variables srun_over_tcp(int rank, int size) {
  Variables variables = srun(rank, size);
  variables.insert_or_assign("SLURM_STEP_NUM_NODES", std::string("2"));
  return variables;
}

uint16_t free_port() {
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  auto* const any = reinterpret_cast<sockaddr*>(&address);
  EXPECT_EQ(bind(listener, any, length), 0);
  EXPECT_EQ(getsockname(listener, any, &length), 0);
  close(listener);
  return ntohs(address.sin_port);
}

/// torchrun's variables, of which each rank has an error file.
Launcher torchrun(uint16_t port, const TemporaryFolder& folder) {
  return [port, path = folder.path()](int rank, int size) {
    return Variables{
        {"RANK", std::to_string(rank)},
        {"WORLD_SIZE", std::to_string(size)},
        {"LOCAL_WORLD_SIZE", std::to_string(size)},
        {"MASTER_ADDR", "127.0.0.1"},
        {"MASTER_PORT", std::to_string(port)},
        {"TORCHELASTIC_RUN_ID", "test"},
        {"TORCHELASTIC_RESTART_COUNT", "0"},
        {"TORCHELASTIC_ERROR_FILE", path / concat("error", rank, ".json")}};
  };
}

/// backend  empty: the one that launch chooses
void start(RankProcesses& ranks, const Launcher& launcher, int size,
           const std::string& scenario, const std::string& backend = "gloo") {
  for (int rank = 0; rank < size; ++rank) {
    Variables variables = launcher(rank, size);
    if (!backend.empty()) {
      variables["COLONNADE_BACKEND"] = backend;
    }
    ranks.start(variables, {scenario});
  }
}

std::vector<RankResult> run(const Launcher& launcher, int size,
                            const std::string& scenario,
                            const std::string& backend = "gloo") {
  RankProcesses ranks;
  start(ranks, launcher, size, scenario, backend);
  return ranks.finish();
}

void expect_success(const std::vector<RankResult>& results) {
  for (size_t rank = 0; rank < results.size(); ++rank) {
    EXPECT_EQ(results[rank].exit_code, 0)
        << "rank " << rank << ": " << results[rank].out;
    EXPECT_THAT(results[rank].out,
                HasSubstr(concat("rank ", rank, " of ", results.size())));
  }
}

/// Expects a CommError with `text` on `rank`.
void expect_comm_error(const RankResult& rank, const std::string& text) {
  EXPECT_EQ(rank.exit_code, 3) << rank.out;
  EXPECT_THAT(rank.out, HasSubstr(concat("CommError: ", text)));
}

/// Expects a CommError about rank 1, which is the process `pid`.
void expect_says_of(const RankResult& rank, pid_t pid,
                    const std::string& what) {
  expect_comm_error(rank, "rank 1 (host ");
  EXPECT_THAT(rank.out, HasSubstr(concat(", process ", pid, ')', what)));
}

TEST(ProcessRanks, CollectivesMatchOneThread) {
  for (const int size : {2, 3, 4}) {
    expect_success(run(mpirun, size, "collectives"));
  }
}

TEST(ProcessRanks, RanksOfOneHostShareMemoryUnlessToldOtherwise) {
  for (const RankResult& rank : run(mpirun, 2, "collectives", "")) {
    EXPECT_EQ(rank.exit_code, 0) << rank.out;
    EXPECT_THAT(rank.out, HasSubstr("of 2 on shm"));
  }
}

TEST(ProcessRanks, AreToldWhereTheyNameDifferentBackends) {
  RankProcesses ranks;
  for (int rank = 0; rank < 2; ++rank) {
    Variables variables = mpirun(rank, 2);
    variables["COLONNADE_BACKEND"] = rank == 0 ? "shm" : "gloo";
    ranks.start(variables, {"nothing"});
  }
  for (const RankResult& rank : ranks.finish()) {
    EXPECT_EQ(rank.exit_code, 2) << rank.out;
    EXPECT_THAT(rank.out,
                HasSubstr("InvalidArgument: backend: rank 0 is to use shm and "
                          "rank 1 gloo; name the same on all ranks, or on "
                          "none, in COLONNADE_BACKEND"));
  }
}

TEST(ProcessRanks, TakeAnyTimeout) {
  for (const char* const backend : {"shm", "gloo"}) {
    expect_success(run(mpirun, 2, "wait_without_limit", backend));
  }
}

TEST(ProcessRanks, CollectivesMatchOneThreadOnSubgroups) {
  expect_success(run(srun, 4, "subgroups"));
}

TEST(ProcessRanks, OfOneProcessAreAThread) {
  const auto results = run(mpirun, 1, "collectives");
  expect_success(results);
  EXPECT_THAT(results[0].out, HasSubstr("on self"));
}

TEST(ProcessRanks, MeetAtAStoreThatRank0Serves) {
  const TemporaryFolder folder;
  expect_success(run(srun_over_tcp, 2, "nothing"));
  expect_success(run(torchrun(free_port(), folder), 2, "nothing"));
}

TEST(ProcessRanks, MeetAtTorchrunsStoreAgainAfterARestart) {
  const TemporaryFolder folder;
  const uint16_t port = free_port();
  const auto agent =
      tcp_rendezvous({.host = "127.0.0.1", .port = port, .serve = true},
                     std::chrono::seconds(30));
  for (const char* const restarts : {"0", "1"}) {
    const Launcher launcher = [&](int rank, int size) {
      Variables variables = torchrun(port, folder)(rank, size);
      variables["TORCHELASTIC_USE_AGENT_STORE"] = "True";
      variables["TORCHELASTIC_RESTART_COUNT"] = restarts;
      return variables;
    };
    expect_success(run(launcher, 2, "nothing"));
  }
}

TEST(ProcessRanks, LeaveNoFileBehind) {
  for (const char* const scenario : {"nothing", "throw_on_1"}) {
    RankProcesses ranks;
    start(ranks, mpirun, 2, scenario);
    ranks.finish();
    for (const auto& [name, bytes] : ranks.folder().files()) {
      EXPECT_TRUE(name.starts_with("out")) << name << " is left";
    }
  }
}

TEST(ProcessRanks, TheOddOneOutIsNamed) {
  for (const RankResult& rank : run(srun, 3, "disagree")) {
    expect_comm_error(
        rank,
        "rank 1 made another call than the rest in call 2 of group \"all\": "
        "rank 1 called all_reduce(float32 [2, 5000], sum) but ranks 0 and 2 "
        "called all_reduce(float32 [2, 4], sum); all ranks must make the same "
        "calls in the same order\n");
  }
}

TEST(ProcessRanks, SendAndRecvMustAgree) {
  for (const RankResult& rank : run(mpirun, 2, "send_the_wrong_shape")) {
    expect_comm_error(
        rank,
        "ranks 0 and 1 did not make the same call in call 1 of group \"all\": "
        "rank 0 called send(float32 [4], dst 1) but rank 1 called "
        "recv(float32 [5], src 0); all ranks must make the same calls in the "
        "same order\n");
  }
  for (const RankResult& rank : run(mpirun, 2, "send_to_each_other")) {
    expect_comm_error(
        rank,
        "ranks wait for each other: rank 0 waits in send(float32 [1], dst 1), "
        "call 1 of group \"all\"; rank 1 waits in send(float32 [1], dst 0), "
        "call 1 of group \"all\"; all ranks must make the same calls in the "
        "same order\n");
  }
}

TEST(ProcessRanks, ARankThatThrowsWakesTheOthers) {
  RankProcesses ranks;
  // Over a file: a store that a rank serves goes with it.
  start(ranks, mpirun_with_error_files(ranks), 3, "throw_on_1");
  const auto results = ranks.finish();
  EXPECT_EQ(results[1].exit_code, 1);
  EXPECT_THAT(results[1].out, HasSubstr("exception: the cause\n"));
  for (const size_t rank : {0, 2}) {
    EXPECT_THAT(results[rank].out,
                HasSubstr(concat("first: rank 1 failed: the cause; rank ", rank,
                                 " was in barrier(), call 2 of group \"all\" "
                                 "(ranks 0, 1 and 2)\n")));
    expect_comm_error(results[rank],
                      concat("rank 1 failed: the cause; rank ", rank,
                             " was in barrier(), call 3 of group "));
  }
  const auto files = ranks.folder().files();
  EXPECT_THAT(files.at("error1.json"),
              testing::MatchesRegex(
                  "\\{\"message\":\\{\"errorCode\":1,\"extraInfo\":\\{"
                  "\"timestamp\":\"[0-9]+\"\\},\"message\":\"the cause\"\\}"
                  "\\}"));
}

TEST(ProcessRanks, ARankThatReturnsWakesWhoWaitsForIt) {
  const auto results = run(mpirun, 3, "return_early");
  EXPECT_EQ(results[1].exit_code, 0) << results[1].out;
  for (const size_t rank : {0, 2}) {
    expect_comm_error(results[rank], "rank 1 has returned, but rank ");
  }
}

TEST(ProcessRanks, ATimeoutNamesWhoDidNotCome) {
  for (const RankResult& rank : run(mpirun, 3, "be_late")) {
    EXPECT_EQ(rank.exit_code, 3);
    EXPECT_THAT(rank.out,
                AllOf(HasSubstr(" waited 200 ms in all_reduce(float32 [4], "
                                "sum), call 2 of group \"all\", for rank 1, "
                                "which did not come\n")));
  }
}

TEST(ProcessRanks, ARankThatIsKilledEndsTheOthers) {
  RankProcesses ranks;
  start(ranks, mpirun, 3, "reduce_for_ever");
  for (size_t rank = 0; rank < 3; ++rank) {
    ASSERT_TRUE(ranks.wait_for(rank, "running\n"));
  }
  ranks.signal(1, SIGKILL);
  const auto results = ranks.finish();
  EXPECT_EQ(results[1].exit_code, -9);
  for (const size_t rank : {0, 2}) {
    expect_says_of(results[rank], ranks.pid(1),
                   " is gone: it closed its connection without a word, while ");
  }
}

TEST(ProcessRanks, ARankThatIsStoppedIsNamed) {
  RankProcesses ranks;
  start(ranks, mpirun, 3, "reduce_for_ever");
  for (size_t rank = 0; rank < 3; ++rank) {
    ASSERT_TRUE(ranks.wait_for(rank, "running\n"));
  }
  ranks.signal(1, SIGSTOP);
  for (const size_t rank : {0, 2}) {
    ASSERT_TRUE(ranks.wait_for(rank, "CommError: "));
  }
  ranks.signal(1, SIGKILL);
  const auto results = ranks.finish();
  for (const size_t rank : {0, 2}) {
    expect_says_of(results[rank], ranks.pid(1),
                   concat(" has been stopped by a signal; rank ", rank,
                          " was in all_reduce(float32 [100000], sum), call "));
  }
}

TEST(ProcessRanks, MayBeLaunchedAgain) {
  for (const char* const backend : {"shm", "gloo"}) {
    const auto results = run(mpirun, 3, "launch_again", backend);
    expect_success(results);
    EXPECT_THAT(results[0].out, HasSubstr("sum 12\nsum 12\nsum 12\n"));
  }
}

TEST(ProcessRanks, ARankThatItsLauncherEndsSaysWhereItWas) {
  for (const char* const backend : {"shm", "gloo"}) {
    RankProcesses ranks;
    start(ranks, mpirun_with_error_files(ranks), 2, "wait_for_ever", backend);
    for (size_t rank = 0; rank < 2; ++rank) {
      ASSERT_TRUE(ranks.wait_for(rank, "waiting\n"));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    ranks.signal(0, SIGTERM);
    ranks.signal(1, SIGKILL);
    const auto results = ranks.finish();
    EXPECT_EQ(results[0].exit_code, -SIGTERM) << results[0].out;
    const std::string text =
        "rank 0 ended by SIGTERM in all_reduce(float32 [4], sum), call 2 of "
        "group \"tp\" (ranks 0 and 1)";
    EXPECT_THAT(results[0].out, HasSubstr(text + '\n'));
    EXPECT_THAT(ranks.folder().files().at("error0.json"),
                HasSubstr("by SIGTERM in all_reduce(float32 [4], sum)"));
  }
}

TEST(Rendezvous, SaysWhatNobodySet) {
  const TemporaryFolder folder;
  const auto rendezvous =
      file_rendezvous((folder.path() / "meet").string(), 1, "run/");
  rendezvous->set("a", std::string_view("x\0y", 3));
  EXPECT_EQ(rendezvous->get("a", std::chrono::seconds(1)),
            std::string_view("x\0y", 3));
  EXPECT_THAT(error_of<CommError>(
                  [&] { rendezvous->get("b", std::chrono::milliseconds(20)); }),
              AllOf(HasSubstr("nobody set \"b\" at "),
                    HasSubstr("within 20 ms; see whether all ranks were "
                              "started")));
}

TEST(Rendezvous, RemovesItsFileThoughAllLetGoOfItAtOnce) {
  const TemporaryFolder folder;
  const std::string path = (folder.path() / "meet").string();
  for (int round = 0; round < 100; ++round) {
    std::vector<std::thread> ranks;
    std::barrier all(4);
    for (int rank = 0; rank < 4; ++rank) {
      ranks.emplace_back([&] {
        auto rendezvous = file_rendezvous(path, 4);
        all.arrive_and_wait();
        rendezvous.reset();
      });
    }
    for (std::thread& rank : ranks) {
      rank.join();
    }
    ASSERT_FALSE(std::filesystem::exists(path)) << "round " << round;
  }
}

TEST(Rendezvous, SaysWhichStoreItCannotReach) {
  EXPECT_THAT(error_of<CommError>([] {
                tcp_rendezvous({.host = "127.0.0.1", .port = free_port()},
                               std::chrono::milliseconds(100));
              }),
              HasSubstr("rendezvous: cannot reach the store at 127.0.0.1:"));
}

}  // namespace
}  // namespace colonnade

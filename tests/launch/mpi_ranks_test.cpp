// tests/launch/mpi_ranks_test.cpp
//
// Ranks over the backend `mpi`, started by the real mpirun.
#include "colonnade/comm/backend.h"
#include "colonnade/core/error.h"
#include "tests/launch/rank_processes.h"
#include "tests/testing/temporary_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace colonnade {
namespace {

using testing::AllOf;
using testing::HasSubstr;

struct MpirunResult {
  bool good;
  std::string out;  ///< Of all ranks and of mpirun, in any order.
  bool left_files;  ///< Whether the ranks left their meeting place behind.
};

class MpiRanks : public testing::Test {
 protected:
  void SetUp() override {
    const std::string why_not = find_backend("mpi").why_not();
    if (!why_not.empty()) {
      GTEST_SKIP() << "the backend mpi cannot be used: " << why_not;
    }
    if (std::system("mpirun --version > /dev/null 2>&1") != 0) {
      GTEST_SKIP() << "there is no mpirun here; Debian has it in openmpi-bin";
    }
  }
};

MpirunResult run(int size, const std::string& scenario,
                 const std::string& program = "rank_program") {
  const TemporaryFolder folder;
  const auto tests =
      std::filesystem::read_symlink("/proc/self/exe").parent_path();
  // libmpi leaks at its end, of which a sanitizer would make a failure.
  const std::string command =
      concat("TMPDIR=", folder.path().string(),
             " ASAN_OPTIONS=detect_leaks=0 COLONNADE_BACKEND=mpi timeout 120 "
             "mpirun --allow-run-as-root "
             "--oversubscribe -n ",
             size, ' ', (tests / program).string(), ' ', scenario, " > ",
             (folder.path() / "out").string(), " 2>&1");
  const bool good = std::system(command.c_str()) == 0;
  const auto files = folder.files();
  bool left_files = false;
  for (const auto& [name, text] : files) {
    left_files |= name.starts_with("colonnade");
  }
  return {good, files.at("out"), left_files};
}

size_t count(std::string_view text, std::string_view part) {
  size_t found = 0;
  for (size_t at = text.find(part); at != std::string_view::npos;
       at = text.find(part, at + 1)) {
    ++found;
  }
  return found;
}

void expect_success(const MpirunResult& result, int size) {
  EXPECT_TRUE(result.good) << result.out;
  for (int rank = 0; rank < size; ++rank) {
    EXPECT_THAT(result.out,
                HasSubstr(concat("rank ", rank, " of ", size, " on mpi\n")));
  }
  EXPECT_FALSE(result.left_files);
}

/// mpirun ends the others when one has, so not all may say it.
void expect_comm_error(const MpirunResult& result, const std::string& text) {
  EXPECT_FALSE(result.good);
  EXPECT_THAT(result.out, HasSubstr("CommError: " + text));
}

TEST_F(MpiRanks, CollectivesMatchOneThread) {
  for (const int size : {2, 3, 4}) {
    expect_success(run(size, "collectives"), size);
  }
}

TEST_F(MpiRanks, OfOneProcessAreAThread) {
  const MpirunResult result = run(1, "collectives");
  EXPECT_TRUE(result.good) << result.out;
  EXPECT_THAT(result.out, HasSubstr("rank 0 of 1 on self\n"));
}

TEST_F(MpiRanks, CollectivesMatchOneThreadOnSubgroups) {
  expect_success(run(4, "subgroups"), 4);
}

TEST_F(MpiRanks, TheOddOneOutIsNamed) {
  expect_comm_error(
      run(3, "disagree"),
      "rank 1 made another call than the rest in call 2 of group \"all\": "
      "rank 1 called all_reduce(float32 [2, 5000], sum) but ranks 0 and 2 "
      "called all_reduce(float32 [2, 4], sum); all ranks must make the same "
      "calls in the same order\n");
}

TEST_F(MpiRanks, SendAndRecvMustAgree) {
  expect_comm_error(
      run(2, "send_the_wrong_shape"),
      "ranks 0 and 1 did not make the same call in call 1 of group \"all\": "
      "rank 0 called send(float32 [4], dst 1) but rank 1 called "
      "recv(float32 [5], src 0); all ranks must make the same calls in the "
      "same order\n");
  expect_comm_error(run(2, "send_to_each_other"),
                    "ranks wait for each other: rank 0 waits in ");
}

TEST_F(MpiRanks, ARankThatThrowsWakesTheOthers) {
  const MpirunResult result = run(3, "throw_on_1");
  EXPECT_EQ(count(result.out, "first: rank 1 failed: the cause; rank "), 2)
      << result.out;
  EXPECT_FALSE(result.good);
  EXPECT_FALSE(result.left_files);
}

TEST_F(MpiRanks, ARankThatReturnsWakesWhoWaitsForIt) {
  expect_comm_error(run(3, "return_early"), "rank 1 has returned, but rank ");
}

TEST_F(MpiRanks, ATimeoutNamesWhoDidNotCome) {
  EXPECT_THAT(run(3, "be_late").out,
              HasSubstr(" waited 200 ms in all_reduce(float32 [4], sum), call "
                        "2 of group \"all\", for rank 1, which did not "
                        "come\n"));
}

TEST_F(MpiRanks, AreEndedByMpirunWhereOneIsKilled) {
  const MpirunResult result = run(3, "kill_1");
  EXPECT_FALSE(result.good);
  EXPECT_THAT(result.out, HasSubstr("exited on signal 9"));
}

TEST_F(MpiRanks, ARankThatIsStoppedIsNamed) {
  const MpirunResult result = run(3, "stop_1");
  EXPECT_FALSE(result.good);
  EXPECT_THAT(result.out,
              testing::ContainsRegex(
                  "CommError: rank 1 \\(host [^ ]+, process [0-9]+\\) has been "
                  "stopped by a signal; rank [02] was in barrier\\(\\), call 2 "
                  "of group \"all\""));
}

TEST_F(MpiRanks, UseTheMpiThatTheProgramInitialized) {
  const MpirunResult result = run(2, "multiple", "mpi_program");
  EXPECT_TRUE(result.good) << result.out;
  EXPECT_EQ(count(result.out, "sum 3\n"), 2) << result.out;
  EXPECT_EQ(count(result.out, "its own MPI works: 1\n"), 2) << result.out;
}

TEST_F(MpiRanks, RefuseAnMpiOfOneThread) {
  const MpirunResult result = run(2, "single", "mpi_program");
  EXPECT_TRUE(result.good) << result.out;
  EXPECT_THAT(result.out,
              HasSubstr(" lets only one thread use it; initialize it with "
                        "MPI_Init_thread and MPI_THREAD_MULTIPLE\n"));
  EXPECT_EQ(count(result.out, "its own MPI works: 1\n"), 2) << result.out;
}

TEST_F(MpiRanks, AreRefusedWhereAnotherLauncherStartedThem) {
  RankProcesses ranks;
  for (const char* const rank : {"0", "1"}) {
    // Open MPI makes a folder there, and fails where two do so at once.
    const auto own_folder = ranks.folder().path() / rank;
    std::filesystem::create_directory(own_folder);
    ranks.start({{"TMPDIR", own_folder},
                 {"ASAN_OPTIONS", "detect_leaks=0"},  // libmpi leaks
                 {"COLONNADE_RANK", rank},
                 {"COLONNADE_WORLD_SIZE", "2"},
                 {"COLONNADE_LOCAL_WORLD_SIZE", "2"},
                 {"COLONNADE_RENDEZVOUS", ranks.folder().path() / "meet"},
                 {"COLONNADE_BACKEND", "mpi"}},
                {"nothing"});
  }
  const std::vector<RankResult> results = ranks.finish();
  for (size_t rank = 0; rank < results.size(); ++rank) {
    EXPECT_EQ(results[rank].exit_code, 3);
    EXPECT_THAT(
        results[rank].out,
        AllOf(HasSubstr("CommError: mpi: "),
              HasSubstr(concat(
                  " takes this process for rank 0 of 1, but it is rank ", rank,
                  " of 2; start the ranks with the mpirun of this MPI\n"))));
  }
}

}  // namespace
}  // namespace colonnade

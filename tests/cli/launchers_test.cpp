// tests/cli/launchers_test.cpp
#include "colonnade/comm/backend.h"
#include "tests/testing/temporary_folder.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

namespace colonnade {
namespace {

namespace fs = std::filesystem;

/// build/…/tests/cli/cli_tests runs build/…/cli/colonnade.
std::string program_path() {
  const fs::path tests = fs::read_symlink("/proc/self/exe").parent_path();
  return tests / "../../cli/colonnade";
}

constexpr char kMpirun[] = "mpirun --allow-run-as-root --oversubscribe -n 2 ";

/// Why there are no ranks of mpirun here; empty where there are.
std::string why_no_mpirun() {
  return std::system("mpirun --version > /dev/null 2>&1") == 0
             ? ""
             : "there is no mpirun here; Debian has it in openmpi-bin";
}

/// Trains on thread ranks and on those of mpirun with `backend`, and expects
/// the same losses, bit for bit.
void expect_losses_of_threads(const std::string& backend) {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 500; ++i) {
    text += "One thing leads to another, number " + std::to_string(i) + ". ";
  }
  const fs::path data = folder.write("text", text);
  const auto train = [&](const std::string& launcher, const std::string& out,
                         const std::string& options) {
    const std::string command =
        launcher + program_path() + " train --data " + data.string() +
        " --out " + (folder.path() / out).string() +
        " --tp 2 --hidden 32 --layers 1 --heads 2 --seq-len 16 --batch 2"
        " --steps 5 --eval-windows 4 " +
        options + " > " + (folder.path() / (out + ".log")).string() + " 2>&1";
    return std::system(command.c_str());
  };
  ASSERT_EQ(train("", "threads", ""), 0) << folder.files()["threads.log"];
  ASSERT_EQ(train(kMpirun, "processes",
                  backend.empty() ? "" : "--backend " + backend),
            0)
      << folder.files()["processes.log"];
  const auto files = folder.files();
  EXPECT_NE(files.at("threads/loss.csv"), "");
  EXPECT_EQ(files.at("processes/loss.csv"), files.at("threads/loss.csv"));
}

TEST(Launchers, MpirunTrainsToTheLossesOfThreadRanks) {
  if (const std::string why_not = why_no_mpirun(); !why_not.empty()) {
    GTEST_SKIP() << why_not;
  }
  for (const char* const backend : {"", "gloo"}) {
    expect_losses_of_threads(backend);
  }
}

TEST(Launchers, MpiTrainsToTheLossesOfThreadRanks) {
  if (const std::string why_not =
          why_no_mpirun() + find_backend("mpi").why_not();
      !why_not.empty()) {
    GTEST_SKIP() << why_not;
  }
  expect_losses_of_threads("mpi");
}

}  // namespace
}  // namespace colonnade

// tests/cli/launchers_test.cpp
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

TEST(Launchers, MpirunTrainsToTheLossesOfThreadRanks) {
  if (std::system("mpirun --version > /dev/null 2>&1") != 0) {
    GTEST_SKIP() << "there is no mpirun here; Debian has it in openmpi-bin";
  }
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 500; ++i) {
    text += "One thing leads to another, number " + std::to_string(i) + ". ";
  }
  const fs::path data = folder.write("text", text);
  const auto train = [&](const std::string& launcher, const std::string& out) {
    const std::string command =
        launcher + program_path() + " train --data " + data.string() +
        " --out " + (folder.path() / out).string() +
        " --tp 2 --hidden 32 --layers 1 --heads 2 --seq-len 16 --batch 2"
        " --steps 5 --eval-windows 4 > " +
        (folder.path() / (out + ".log")).string() + " 2>&1";
    return std::system(command.c_str());
  };
  ASSERT_EQ(train("", "threads"), 0) << folder.files()["threads.log"];
  ASSERT_EQ(train("mpirun --allow-run-as-root --oversubscribe -n 2 ", "mpi"), 0)
      << folder.files()["mpi.log"];
  const auto files = folder.files();
  EXPECT_NE(files.at("threads/loss.csv"), "");
  EXPECT_EQ(files.at("mpi/loss.csv"), files.at("threads/loss.csv"));
}

}  // namespace
}  // namespace colonnade

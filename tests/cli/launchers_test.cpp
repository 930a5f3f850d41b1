// tests/cli/launchers_test.cpp
#include "colonnade/comm/backend.h"
#include "tests/testing/shell.h"
#include "tests/testing/temporary_folder.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

namespace colonnade {
namespace {

namespace fs = std::filesystem;

/// build/…/tests/cli/cli_tests runs build/…/cli/colonnade.
std::string program_path() {
  const fs::path tests = fs::read_symlink("/proc/self/exe").parent_path();
  return tests / "../../cli/colonnade";
}

constexpr char kMpirun[] = "mpirun --allow-run-as-root --oversubscribe -n 2 ";

std::string script(const std::string& name) {
  return TESTING_FOLDER "/" + name + ' ';
}

/// Why there are no ranks of a launcher here; empty where there are.
std::string why_no_mpishell() {
  return shell("mpirun --version").good
             ? ""
             : "there is no mpirun here; Debian has it in openmpi-bin";
}
std::string why_no_mpich() {
  return shell("mpiexec.mpich --version").good
             ? ""
             : "there is no mpiexec.mpich here; Debian has it in mpich";
}
std::string why_not(const std::string& script_name) {
  return shell(script(script_name) + "--why-not").out;
}

constexpr char kTorchrun[] =
    TEST_PYTHON " -m torch.distributed.run --no-python --nproc-per-node 2 ";
std::string why_no_torchshell() {
  return shell(std::string(kTorchrun) + "--help").good
             ? ""
             : "no torchrun in " TEST_PYTHON
               ", which CMake found; give -DCOLONNADE_TEST_PYTHON a Python "
               "that has torch";
}

/// Trains on thread ranks, and on processes that each of `launchers` starts,
/// and expects the same losses, bit for bit.
void expect_losses_of_threads(const std::vector<std::string>& launchers,
                              const std::string& options = "") {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 500; ++i) {
    text += "One thing leads to another, number " + std::to_string(i) + ". ";
  }
  const fs::path data = folder.write("text", text);
  const auto train = [&](const std::string& launcher, const std::string& out,
                         const std::string& more) {
    return shell("TMPDIR=" + folder.path().string() + ' ' + launcher +
                 program_path() + " train --data " + data.string() + " --out " +
                 (folder.path() / out).string() +
                 " --tp 2 --hidden 32 --layers 1 --heads 2 --seq-len 16"
                 " --batch 2 --steps 5 --eval-windows 4 " +
                 more);
  };
  const ShellResult alone = train("", "threads", "");
  ASSERT_TRUE(alone.good) << alone.out;
  int number = 0;
  for (const std::string& launcher : launchers) {
    const std::string out = "processes" + std::to_string(++number);
    const ShellResult launched = train(launcher, out, options);
    ASSERT_TRUE(launched.good) << launcher << ": " << launched.out;
    const auto files = folder.files();
    EXPECT_NE(files.at("threads/loss.csv"), "");
    EXPECT_EQ(files.at(out + "/loss.csv"), files.at("threads/loss.csv"))
        << launcher;
    for (const auto& [name, content] : files) {
      EXPECT_FALSE(name.starts_with("colonnade-"))
          << launcher << ": " << name << " is left";
    }
  }
}

#define SKIP_WHERE(why_not)                            \
  if (const std::string why = why_not; !why.empty()) { \
    GTEST_SKIP() << why;                               \
  }

TEST(Launchers, MpirunTrainsToTheLossesOfThreadRanks) {
  SKIP_WHERE(why_no_mpishell());
  expect_losses_of_threads({kMpirun});
  expect_losses_of_threads({kMpirun}, "--backend gloo");
}

TEST(Launchers, MpiTrainsToTheLossesOfThreadRanks) {
  SKIP_WHERE(why_no_mpishell() + find_backend("mpi").why_not());
  expect_losses_of_threads({kMpirun}, "--backend mpi");
}

TEST(Launchers, MpichTrainsToTheLossesOfThreadRanks) {
  SKIP_WHERE(why_no_mpich());
  expect_losses_of_threads({"mpiexec.mpich -n 2 "});
}

TEST(Launchers, SrunTrainsToTheLossesOfThreadRanks) {
  SKIP_WHERE(why_not("one_node_slurm.sh"));
  const std::string slurm = script("one_node_slurm.sh");
  // Without and with Slurm's PMI, which looks like MPICH's.
  expect_losses_of_threads({slurm + "srun --overcommit -n 2 ",
                            slurm + "srun --mpi=pmi2 --overcommit -n 2 "});
}

TEST(Launchers, TorchrunTrainsToTheLossesOfThreadRanks) {
  SKIP_WHERE(why_no_torchshell());
  expect_losses_of_threads({kTorchrun});
}

TEST(Launchers, TwoHostsTrainToTheLossesOfThreadRanks) {
  SKIP_WHERE(why_not("two_hosts.sh"));
  expect_losses_of_threads({script("two_hosts.sh") + "2 "});
}

}  // namespace
}  // namespace colonnade

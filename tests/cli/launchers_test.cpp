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
std::string why_no_mpirun() {
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
std::string why_no_torchrun() {
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
  SKIP_WHERE(why_no_mpirun());
  expect_losses_of_threads({kMpirun});
  expect_losses_of_threads({kMpirun}, "--backend gloo");
}

TEST(Launchers, MpiTrainsToTheLossesOfThreadRanks) {
  SKIP_WHERE(why_no_mpirun() + find_backend("mpi").why_not());
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

TEST(Launchers, MpiTrainsUnderSrun) {
  SKIP_WHERE(why_not("one_node_slurm.sh") + find_backend("mpi").why_not());
  const std::string slurm = script("one_node_slurm.sh");
  if (shell(slurm + "srun --mpi=list").out.find("pmix") == std::string::npos) {
    GTEST_SKIP() << "this Slurm has no plugin for pmix";
  }
  expect_losses_of_threads({slurm + "srun --mpi=pmix --overcommit -n 2 "},
                           "--backend mpi");
}

TEST(Launchers, TorchrunTrainsToTheLossesOfThreadRanks) {
  SKIP_WHERE(why_no_torchrun());
  expect_losses_of_threads({kTorchrun});
}

TEST(Launchers, TwoHostsTrainToTheLossesOfThreadRanks) {
  SKIP_WHERE(why_not("two_hosts.sh"));
  expect_losses_of_threads({script("two_hosts.sh") + "2 "});
}

TEST(Launchers, MpirunTrainsOnTwoHosts) {
  SKIP_WHERE(why_not("two_hosts.sh") + why_no_mpirun() +
             find_backend("mpi").why_not());
  const std::string mpirun = script("two_hosts.sh") + "--mpirun 2 ";
  expect_losses_of_threads({mpirun});
  expect_losses_of_threads({mpirun}, "--backend mpi");
}

/// Every command on two processes: what thread ranks say, said once.
TEST(Launchers, EveryCommandRunsOnProcesses) {
  SKIP_WHERE(why_no_mpirun());
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 200; ++i) {
    text += "One thing leads to another, number " + std::to_string(i) + ". ";
  }
  const std::string data = folder.write("text", text).string();
  const std::string run = (folder.path() / "run").string();
  const auto output_of = [&](const std::string& command) {
    const ShellResult result =
        shell("TMPDIR=" + folder.path().string() + ' ' + command);
    EXPECT_TRUE(result.good) << command << ": " << result.out;
    return result.out;
  };
  const std::string launched = kMpirun + program_path();
  output_of(program_path() + " train --data " + data + " --out " + run +
            " --hidden 32 --layers 1 --heads 2 --seq-len 16 --batch 2"
            " --steps 2 --eval-windows 2");

  const std::string evaluate =
      " evaluate --tp 2 --checkpoint " + run + " --data " + data;
  EXPECT_EQ(output_of(launched + evaluate),
            output_of(program_path() + evaluate));
  const std::string write = " --prompt One --max-tokens 20";
  const std::string generate = " generate --tp 2 --checkpoint " + run + write;
  const std::string written = output_of(program_path() + generate);
  EXPECT_EQ(output_of(launched + generate), written);

  const std::string traced = (folder.path() / "traced").string();
  const std::string traced_alone = (folder.path() / "alone").string();
  const std::string trace = " trace --tp 2 --checkpoint " + run + " --out ";
  EXPECT_NE(output_of(launched + trace + traced).find("degree   2, or any"),
            std::string::npos);
  output_of(program_path() + trace + traced_alone);
  EXPECT_EQ(output_of(launched + " run " + traced + write), written);
  EXPECT_EQ(output_of(launched + " run --backend gloo " + traced + write),
            written);
  EXPECT_EQ(output_of(program_path() + " run " + traced + write), written);
  EXPECT_EQ(output_of(launched + " run " + traced_alone + write), written);
  EXPECT_EQ(output_of(launched + " graph --text " + traced),
            output_of(program_path() + " graph --text " + traced_alone));
  const std::string profile =
      output_of(launched + " graph --profile --seq 1 --rounds 2 " + traced);
  EXPECT_NE(profile.find("A pass on 2 ranks takes"), std::string::npos);
  const std::string bench =
      output_of(launched + " bench --rounds 2 --seq 4 " + traced);
  EXPECT_NE(bench.find(" on 2 ranks, 2 rounds"), std::string::npos);
  EXPECT_EQ(bench.find(" on 2 ranks"), bench.rfind(" on 2 ranks"));
}

}  // namespace
}  // namespace colonnade

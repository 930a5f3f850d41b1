// tests/launch/launcher_test.cpp
#include "colonnade/launch/detail/launcher.h"

#include "colonnade/core/error.h"
#include "tests/testing/expect.h"

#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <string>

namespace colonnade::detail {
namespace {

using testing::expect_throw;
using Variables = std::map<std::string, std::string>;

std::optional<LauncherPlace> find(const Variables& variables) {
  return find_launcher([&](const char* name) {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

Variables operator+(Variables a, const Variables& b) {
  a.insert(b.begin(), b.end());
  return a;
}

const Variables kTorchrun = {{"RANK", "5"},
                             {"WORLD_SIZE", "8"},
                             {"LOCAL_RANK", "1"},
                             {"LOCAL_WORLD_SIZE", "4"},
                             {"MASTER_ADDR", "node1"},
                             {"MASTER_PORT", "29500"},
                             {"TORCHELASTIC_RUN_ID", "abc"},
                             {"TORCHELASTIC_RESTART_COUNT", "2"},
                             {"TORCHELASTIC_USE_AGENT_STORE", "True"}};
const Variables kOpenMpi = {{"OMPI_COMM_WORLD_RANK", "1"},
                            {"OMPI_COMM_WORLD_SIZE", "2"},
                            {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
                            {"PMIX_NAMESPACE", "77"}};
const Variables kSlurm = {
    {"SLURM_PROCID", "0"},         {"SLURM_STEP_NUM_TASKS", "4"},
    {"SLURM_STEP_NUM_NODES", "2"}, {"SLURM_STEP_NODELIST", "gpu[07-08]"},
    {"SLURM_JOB_ID", "12"},        {"SLURM_STEP_ID", "0"}};

TEST(Launcher, IsNoneWithoutVariables) {
  EXPECT_EQ(find({}), std::nullopt);
  EXPECT_EQ(find({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "4"}}), std::nullopt)
      << "a batch script is one process";
}

TEST(Launcher, OfOneProcessIsNone) {
  EXPECT_EQ(find({{"RANK", "0"}, {"WORLD_SIZE", "1"}}), std::nullopt);
}

TEST(Launcher, FindsTorchrunAndItsStore) {
  const auto place = find(kTorchrun);
  ASSERT_TRUE(place);
  EXPECT_EQ(place->launcher, "torchrun");
  EXPECT_EQ(place->rank, 5);
  EXPECT_EQ(place->size, 8);
  EXPECT_FALSE(place->one_host);
  EXPECT_EQ(place->job, "abc-2");
  EXPECT_EQ(place->host, "node1");
  EXPECT_EQ(place->port, 29500);
  EXPECT_FALSE(place->serve);
}

TEST(Launcher, SeesOneJobOfMpirunOnAllItsHosts) {
  const auto job_on = [](const char* daemon, const char* mpirun) {
    return find({{"OMPI_COMM_WORLD_RANK", "1"},
                 {"OMPI_COMM_WORLD_SIZE", "4"},
                 {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
                 {"COLONNADE_MASTER", "node1:29400"},
                 {"PMIX_NAMESPACE", "77"},
                 {"PMIX_SERVER_URI2", daemon},
                 {"OMPI_MCA_orte_hnp_uri", mpirun}})
        ->job;
  };
  EXPECT_EQ(job_on("76.0;tcp4://127.0.0.1:40001", "76.0;tcp://node1:50001"),
            job_on("76.1;tcp4://127.0.0.1:40002", "76.0;tcp://node1:50001"));
  EXPECT_NE(job_on("76.0;tcp4://127.0.0.1:40001", "76.0;tcp://node1:50001"),
            job_on("76.0;tcp4://127.0.0.1:40001", "76.0;tcp://node1:50002"));
}

TEST(Launcher, TellsJobsOfMpichApartOnOneHostAndByTheUsersIdOnSeveral) {
  const auto job_on = [](const char* local_size) {
    return find({{"PMI_RANK", "1"},
                 {"PMI_SIZE", "4"},
                 {"MPI_LOCALNRANKS", local_size},
                 {"COLONNADE_MASTER", "node1:29400"},
                 {"COLONNADE_RUN_ID", "mine"}})
        ->job;
  };
  EXPECT_EQ(job_on("2"), "mpi-mine");
  EXPECT_NE(job_on("4"), "mpi-mine");
}

TEST(Launcher, ServesTheStoreOfTorchrunsVariablesOnRank0) {
  for (const int rank : {0, 1}) {
    const auto place = find({{"RANK", std::to_string(rank)},
                             {"WORLD_SIZE", "2"},
                             {"MASTER_ADDR", "node1"},
                             {"MASTER_PORT", "29500"}});
    EXPECT_EQ(place->serve, rank == 0);
  }
}

TEST(Launcher, FindsMpiAndMeetsInAFileOfTheJob) {
  const auto place = find(kOpenMpi);
  ASSERT_TRUE(place);
  EXPECT_EQ(place->rank, 1);
  EXPECT_EQ(place->size, 2);
  EXPECT_TRUE(place->is_own_file);
  EXPECT_THAT(place->file, ::testing::HasSubstr("-mpi-77-"));
  const auto pmi =
      find({{"PMI_RANK", "1"}, {"PMI_SIZE", "2"}, {"MPI_LOCALNRANKS", "2"}});
  ASSERT_TRUE(pmi);
  EXPECT_EQ(pmi->rank, 1);
  EXPECT_THAT(pmi->file, ::testing::HasSubstr("-mpi-"));
}

TEST(Launcher, FindsSlurmAndMeetsOnTheFirstHost) {
  const auto place = find(kSlurm);
  ASSERT_TRUE(place);
  EXPECT_EQ(place->size, 4);
  EXPECT_EQ(place->host, "gpu07");
  EXPECT_GE(place->port, 10000);
  EXPECT_TRUE(place->serve);
  EXPECT_EQ(find(kSlurm)->port, place->port);

  const auto one_host = find(Variables{{"SLURM_STEP_NUM_NODES", "1"}} + kSlurm);
  EXPECT_THAT(one_host->file, ::testing::HasSubstr("-slurm-12-0-"));
}

TEST(Launcher, IsSlurmAlsoWhereItBringsPmi) {
  const Variables pmi = {{"PMI_RANK", "0"}, {"PMI_SIZE", "4"}};
  EXPECT_EQ(find(pmi + kSlurm), find(kSlurm));
}

TEST(Launcher, OfTheInnerLauncherCounts) {
  EXPECT_EQ(find(kTorchrun + kSlurm)->launcher, "torchrun");
  EXPECT_EQ(find(kTorchrun + kOpenMpi)->launcher, "torchrun");
  EXPECT_EQ(find(kOpenMpi + kSlurm)->launcher, "Open MPI's mpirun");
  const Variables mpiexec = {
      {"PMI_RANK", "1"}, {"PMI_SIZE", "2"}, {"MPI_LOCALNRANKS", "2"}};
  EXPECT_EQ(find(mpiexec + kSlurm)->launcher, "mpiexec");
}

TEST(Launcher, OwnVariablesWinAndMustNotContradict) {
  const Variables own = {{"COLONNADE_RANK", "1"},
                         {"COLONNADE_WORLD_SIZE", "2"},
                         {"COLONNADE_MASTER", "[::1]:29400"}};
  const auto place = find(own + kOpenMpi);
  EXPECT_EQ(place->launcher, "COLONNADE_RANK");
  EXPECT_EQ(place->host, "::1");
  EXPECT_EQ(place->port, 29400);
  expect_throw<InvalidArgument>(
      [&] { find(own + kSlurm); },
      "COLONNADE_RANK says rank 1 of 2 (COLONNADE_RANK=1, "
      "COLONNADE_WORLD_SIZE=2), but Slurm's srun says rank 0 of 4");
}

TEST(Launcher, SaysWhatIsMissingOrWrong) {
  expect_throw<InvalidArgument>(
      [] {
        find({{"WORLD_SIZE", "4"}});
      },
      "WORLD_SIZE is 4, and RANK is not set");
  expect_throw<InvalidArgument>(
      [] {
        find({{"COLONNADE_RANK", "1"}});
      },
      "COLONNADE_WORLD_SIZE is not; set it");
  expect_throw<InvalidArgument>(
      [] {
        find({{"WORLD_SIZE", "4"}, {"RANK", "x"}});
      },
      "RANK is \"x\"; it must be a number");
  expect_throw<InvalidArgument>(
      [] {
        find({{"WORLD_SIZE", "4"}, {"RANK", "4"}});
      },
      "ranks are numbered from 0 to 3");
  expect_throw<InvalidArgument>(
      [] {
        find({{"PMI_RANK", "1"}, {"PMI_SIZE", "2"}});
      },
      "mpiexec started 2 processes, and does not say where they can meet; set "
      "COLONNADE_MASTER=host:port");
  expect_throw<InvalidArgument>(
      [] {
        find(Variables{{"COLONNADE_MASTER", "node1"}} + kOpenMpi);
      },
      "COLONNADE_MASTER is \"node1\"; write the host of rank 0 and a free "
      "port");
}

TEST(FirstHost, ReadsSlurmsLists) {
  for (const auto& [nodes, first] :
       Variables{{"a", "a"},
                 {"a,b", "a"},
                 {"n[03-05,9],x", "n03"},
                 {"n[7]", "n7"},
                 {"r[1-2]n.cluster", "r1n.cluster"},
                 {"r[1-2]n,x", "r1n"}}) {
    EXPECT_EQ(first_host(nodes), first);
  }
}

}  // namespace
}  // namespace colonnade::detail

#include "colonnade/comm/neighbors.h"

#include "colonnade/core/error.h"
#include "tests/testing/error_of.h"
#include "tests/testing/file_rendezvous.h"
#include "tests/testing/temporary_folder.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <memory>
#include <string>
#include <string_view>

namespace colonnade {
namespace {

/// This process is rank 0; the others have said what a test says for them.
class MeetNeighbors : public testing::Test {
 protected:
  template <size_t n>
  Neighbors meet(const std::array<std::string_view, n>& candidates) {
    return meet_neighbors({.rank = 0,
                           .size = size_,
                           .host = "here",
                           .rendezvous = meet_at_,
                           .timeout = std::chrono::seconds(5)},
                          candidates);
  }
  void rank_says(const std::string& lines) {
    meet_at_->set(concat("place/", size_++), lines);
  }

  static constexpr std::array<std::string_view, 2> kOfOneHost{"shm", "gloo"};

 private:
  TemporaryFolder folder_;
  std::shared_ptr<FileRendezvous> meet_at_ =
      std::make_shared<FileRendezvous>(folder_.path());
  int size_ = 1;
};

TEST_F(MeetNeighbors, TakesTheFirstBackendThatAllCanUse) {
  rank_says("here\n0\nshm, gloo\n\n\n");
  EXPECT_EQ(meet(kOfOneHost).backend->name, "shm");
}

TEST_F(MeetNeighbors, PassesOverABackendThatOneCannotUse) {
  rank_says("here\n0\nshm, gloo\n\n\n");
  rank_says("here\n0\nshm, gloo\nno memory\n\n");
  const Neighbors neighbors = meet(kOfOneHost);
  EXPECT_EQ(neighbors.backend->name, "gloo");
  EXPECT_EQ(neighbors.why_not_first, "rank 2: no memory");
}

TEST_F(MeetNeighbors, SharesNoMemoryBetweenHosts) {
  rank_says("there\n0\nshm, gloo\n\n\n");
  const Neighbors neighbors = meet(kOfOneHost);
  EXPECT_FALSE(neighbors.one_host);
  EXPECT_EQ(neighbors.backend->name, "gloo");
}

TEST_F(MeetNeighbors, RefusesDifferentBackends) {
  rank_says("here\n0\nmpi\n\n");
  EXPECT_EQ(error_of<InvalidArgument>([&] { meet(kOfOneHost); }),
            "backend: rank 0 is to use shm, gloo and rank 1 mpi; name the same "
            "on all ranks, or on none, in COLONNADE_BACKEND or where the "
            "program takes it");
}

/// host_identity() of a process in a new namespace of process numbers; empty
/// where this machine allows none.
std::string identity_in_a_container() {
  std::array<int, 2> ends{};
  EXPECT_EQ(pipe(ends.data()), 0);
  const pid_t child = fork();
  if (child == 0) {
    const bool is_apart = unshare(CLONE_NEWPID) == 0 ||
                          unshare(CLONE_NEWUSER | CLONE_NEWPID) == 0;
    if (is_apart && fork() == 0) {
      const std::string identity = host_identity();
      const ssize_t written = write(ends[1], identity.data(), identity.size());
      _exit(written > 0 ? 0 : 1);
    }
    _exit(0);
  }
  close(ends[1]);
  std::string identity;
  std::array<char, 512> text{};
  for (ssize_t n; (n = read(ends[0], text.data(), text.size())) > 0;) {
    identity.append(text.data(), static_cast<size_t>(n));
  }
  close(ends[0]);
  waitpid(child, nullptr, 0);
  return identity;
}

TEST(HostIdentity, IsThatOfProcessesWhoSeeEachOther) {
  const std::string here = host_identity();
  EXPECT_EQ(host_identity(), here);
  const std::string there = identity_in_a_container();
  if (there.empty()) {
    GTEST_SKIP() << "this machine allows no namespaces";
  }
  EXPECT_NE(there, here);
  EXPECT_EQ(there.substr(0, there.rfind('/')), here.substr(0, here.rfind('/')));
}

}  // namespace
}  // namespace colonnade

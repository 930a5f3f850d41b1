// tests/comm/peer_watch_test.cpp
#include "colonnade/comm/detail/peer_watch.h"

#include "colonnade/core/error.h"
#include "tests/testing/file_rendezvous.h"
#include "tests/testing/temporary_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <future>
#include <memory>
#include <string>
#include <thread>

namespace colonnade::detail {
namespace {

/// This process is rank 0; rank 1 is a child that does nothing.
class PeerWatchTest : public testing::Test {
 protected:
  PeerWatchTest() {
    if (child_ == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      const Peers peers(place(1));
      for (;;) {
        pause();
      }
    }
    peers_ = std::make_shared<const Peers>(place(0));
  }
  ~PeerWatchTest() override {
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
  }

  ProcessPlace place(int rank) const {
    return {.rank = rank,
            .size = 2,
            .host = rank_host_,
            .rendezvous = meet_at_,
            .timeout = std::chrono::seconds(30)};
  }

  void expect_woken_by(const std::string& reason) {
    ASSERT_EQ(woken_.get_future().wait_for(std::chrono::seconds(30)),
              std::future_status::ready);
    EXPECT_TRUE(watch_->has_lost());
    EXPECT_EQ(watch_->lost(), reason);
  }

  void start_watch() {
    watch_ = std::make_unique<PeerWatch>(
        peers_, std::make_shared<ProcessFates>(meet_at_, 0), nullptr,
        [this] { woken_.set_value(); });
  }

  TemporaryFolder folder_;
  std::string rank_host_ = "here/1234";
  std::shared_ptr<FileRendezvous> meet_at_ =
      std::make_shared<FileRendezvous>(folder_.path());
  pid_t child_ = fork();
  std::shared_ptr<const Peers> peers_;
  std::promise<void> woken_;
  std::unique_ptr<PeerWatch> watch_;
};

TEST_F(PeerWatchTest, FindsAProcessThatIsStoppedAndTellsTheOthers) {
  start_watch();
  watch_->begin_wait();
  kill(child_, SIGSTOP);
  const std::string reason = concat("rank 1 (host here, process ", child_,
                                    ") has been stopped by a signal");
  expect_woken_by(reason);
  EXPECT_EQ(ProcessFates(meet_at_, 5).lost(), reason);
}

TEST_F(PeerWatchTest, HearsWhatOthersFound) {
  start_watch();
  ProcessFates(meet_at_, 5).tell_lost("rank 7 is stopped");
  watch_->begin_wait();
  expect_woken_by("rank 7 is stopped");
}

TEST_F(PeerWatchTest, DoesNotLookWhileNobodyWaits) {
  start_watch();
  kill(child_, SIGSTOP);
  watch_->begin_wait();
  watch_->end_wait();
  std::this_thread::sleep_for((PeerWatch::kStoppedLooks + 2) *
                              PeerWatch::kPause);
  EXPECT_FALSE(watch_->has_lost());
}

TEST_F(PeerWatchTest, PeersSeeWhoHasEnded) {
  EXPECT_TRUE(peers_->share_host());
  EXPECT_FALSE(peers_->has_ended(0));
  EXPECT_FALSE(peers_->has_ended(1));
  EXPECT_EQ(peers_->name(1),
            concat("rank 1 (host here, process ", child_, ')'));
  kill(child_, SIGKILL);
  siginfo_t info{};
  waitid(P_PID, static_cast<id_t>(child_), &info, WEXITED | WNOWAIT);
  EXPECT_TRUE(peers_->has_ended(1));
  EXPECT_EQ(peers_->how_it_ended(1), "its process died (signal 9)");
}

TEST(HostProcess, SaysHowItEnded) {
  std::array<int, 2> gate{};
  ASSERT_EQ(pipe(gate.data()), 0);
  const pid_t child = fork();
  if (child == 0) {
    char go = 0;
    _exit(read(gate[0], &go, 1) == 1 ? 3 : 4);
  }
  const HostProcess process(child, HostProcess::start_of(child));
  EXPECT_EQ(process.how_it_ended(), "");
  ASSERT_EQ(write(gate[1], "x", 1), 1);
  siginfo_t info{};
  waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT);
  EXPECT_FALSE(process.lives());
  EXPECT_EQ(process.how_it_ended(), " (exit status 3)");
  waitpid(child, nullptr, 0);
  EXPECT_THAT(process.how_it_ended(),
              testing::AnyOf(" (exit status 3)", ""));  // by its pidfd, or not
  close(gate[0]);
  close(gate[1]);
}

}  // namespace
}  // namespace colonnade::detail

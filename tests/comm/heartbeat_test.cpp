// tests/comm/heartbeat_test.cpp
#include "colonnade/comm/detail/heartbeat.h"

#include "colonnade/core/error.h"
#include "tests/testing/file_rendezvous.h"
#include "tests/testing/temporary_folder.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace colonnade::detail {
namespace {

constexpr std::chrono::milliseconds kPause{1};

/// Ranks of this process that take each other for those of other hosts.
class HeartbeatTest : public testing::Test {
 protected:
  void start(int size, std::chrono::milliseconds timeout) {
    std::vector<std::future<std::unique_ptr<Heartbeat>>> made;
    for (int rank = 0; rank < size; ++rank) {
      made.push_back(std::async(std::launch::async, [=, this] {
        const ProcessPlace place{.rank = rank,
                                 .size = size,
                                 .host = concat("host", rank, "/1234"),
                                 .rendezvous = meet_at_,
                                 .timeout = timeout};
        return std::make_unique<Heartbeat>(place, Peers(place), "127.0.0.1");
      }));
    }
    for (auto& heartbeat : made) {
      of_.push_back(heartbeat.get());
    }
  }
  void start(int size) { start(size, std::chrono::seconds(30)); }

  /// What rank 0 finds in `looks` of one wait, while `others` answer: one after
  /// the other, so that it does not depend on who gets a core.
  std::optional<int> look(int looks, const std::vector<int>& others) {
    std::optional<int> found;
    for (int i = 0; i < looks && !found; ++i) {
      found = of_[0]->look(/*is_new=*/i == 0);
      serve(0);
      for (const int rank : others) {
        serve(rank);
      }
      serve(0);
      looks_done_ = i + 1;
    }
    return found;
  }

  void serve(int rank) {
    of_[static_cast<size_t>(rank)]->serve(never_.number(), kPause);
  }

  TemporaryFolder folder_;
  std::shared_ptr<FileRendezvous> meet_at_ =
      std::make_shared<FileRendezvous>(folder_.path());
  std::vector<std::unique_ptr<Heartbeat>> of_;  // by rank
  Descriptor never_{eventfd(0, EFD_CLOEXEC)};
  int looks_done_ = 0;
};

TEST_F(HeartbeatTest, FindsAProcessWhoseSystemAnswersButNotItself) {
  start(3);
  EXPECT_EQ(look(200, {1}), 2);
  EXPECT_GE(looks_done_, Heartbeat::kSilentLooks);
  EXPECT_LE(looks_done_, Heartbeat::kSilentLooks + 2);
}

TEST_F(HeartbeatTest, FindsNobodyWhileAllAnswer) {
  start(3);
  EXPECT_EQ(look(5 * Heartbeat::kSilentLooks, {1, 2}), std::nullopt);
}

TEST_F(HeartbeatTest, TakesAProcessThatHasEndedForNoStoppedOne) {
  start(2);
  of_[1] = nullptr;
  EXPECT_EQ(look(5 * Heartbeat::kSilentLooks, {}), std::nullopt);
}

TEST_F(HeartbeatTest, ForgetsAQuestionWithTheWait) {
  start(2);
  for (int wait = 0; wait < 5; ++wait) {
    EXPECT_EQ(look(Heartbeat::kSilentLooks - 1, {}), std::nullopt);
  }
}

TEST_F(HeartbeatTest, AsksNobodyWhereRanksWaitForEver) {
  start(2, std::chrono::milliseconds(-1));
  EXPECT_EQ(look(5 * Heartbeat::kSilentLooks, {}), std::nullopt);
}

TEST_F(HeartbeatTest, TellsAllWhoIsLost) {
  start(4);
  of_[2]->tell_lost("rank 3 is stopped");
  for (int i = 0; i < 20; ++i) {
    for (const int rank : {2, 0, 1, 3}) {
      serve(rank);
    }
  }
  for (const int rank : {0, 1, 3}) {
    EXPECT_EQ(of_[static_cast<size_t>(rank)]->lost(), "rank 3 is stopped");
  }
  EXPECT_EQ(of_[2]->lost(), std::nullopt);
}

/// Sends `text` to the process whose entry at the rendezvous is this.
void send_as_a_stranger(const std::string& entry, const std::string& text) {
  const Descriptor stranger(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  to.sin_port = htons(
      static_cast<uint16_t>(std::stoi(entry.substr(entry.rfind(' ') + 1))));
  ASSERT_EQ(connect(stranger.number(), reinterpret_cast<const sockaddr*>(&to),
                    sizeof(to)),
            0);
  EXPECT_GT(send(stranger.number(), text.data(), text.size(), MSG_NOSIGNAL), 0);
}

TEST_F(HeartbeatTest, HearsNoStranger) {
  start(2);
  const std::string entry =
      meet_at_->get("heartbeat/0", std::chrono::seconds(1));
  const std::string token = entry.substr(0, entry.find(' '));
  std::string other = token;
  other.back() = other.back() == '1' ? '2' : '1';
  for (const std::string& text :
       {std::string("lost you\n"), std::string("\n\n\n"), " lost you\n" + token,
        other + " lost you\n", token + "lost you\n",
        std::string(100'000, 'x')}) {
    send_as_a_stranger(entry, text);
  }
  for (int i = 0; i < 20; ++i) {
    serve(0);
  }
  EXPECT_EQ(of_[0]->lost(), std::nullopt);
  EXPECT_EQ(look(3, {1}), std::nullopt);

  send_as_a_stranger(entry, token + " lost you\n");  // not one then
  for (int i = 0; i < 20; ++i) {
    serve(0);
  }
  EXPECT_EQ(of_[0]->lost(), "you");
}

}  // namespace
}  // namespace colonnade::detail

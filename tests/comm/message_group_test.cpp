// tests/comm/message_group_test.cpp
//
// Groups over a mesh that does as it is told.
#include "colonnade/comm/detail/mesh.h"
#include "colonnade/comm/detail/message_backend.h"
#include "colonnade/comm/detail/peers.h"
#include "colonnade/comm/detail/process_fates.h"
#include "colonnade/comm/world.h"
#include "colonnade/core/error.h"
#include "tests/testing/error_of.h"
#include "tests/testing/file_rendezvous.h"
#include "tests/testing/temporary_folder.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <memory>
#include <stdexcept>
#include <string>

namespace colonnade::detail {
namespace {

/// Sends nothing.
class BrokenMesh final : public Mesh {
 public:
  std::string_view backend() const override { return "broken"; }
  uint32_t tags() const override { return 100; }
  bool is_open() const override { return true; }
  void close() noexcept override {}
  void abandon() noexcept override {}
  void send(const void*, size_t, int, uint32_t) override {
    throw std::runtime_error("no buffers left\nat line 7");
  }
  void recv(void*, size_t, int, uint32_t) override {}
  Outcome wait(Clock::time_point) override { return {}; }
  void interrupt() noexcept override {}
};

TEST(MessageGroup, SaysWhyAMessageCannotBeSentToAPeerThatLives) {
  const TemporaryFolder folder;
  const auto meet_at = std::make_shared<FileRendezvous>(folder.path());
  const ProcessPlace place{.rank = 0,
                           .size = 2,
                           .host = "here",
                           .rendezvous = meet_at,
                           .timeout = std::chrono::seconds(5)};
  meet_at->set("process/1",
               concat(getpid(), ' ', HostProcess::start_of(getpid()), " here"));
  const WorldPtr world = make_message_world(
      place, std::make_shared<ProcessFates>(meet_at, 0),
      std::make_unique<BrokenMesh>(), std::make_shared<const Peers>(place));
  const GroupPtr group = world->make_group("two", {0, 1});
  EXPECT_EQ(error_of<CommError>([&] { group->barrier(); }),
            concat("broken: rank 0 cannot exchange messages with "
                   "rank 1 (host here, process ",
                   getpid(),
                   ") in barrier(), call 1 of group \"two\": no "
                   "buffers left"));
}

}  // namespace
}  // namespace colonnade::detail

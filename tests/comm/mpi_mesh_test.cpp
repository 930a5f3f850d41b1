// tests/comm/mpi_mesh_test.cpp
//
// Over an MPI that does as it is told: what a real one cannot be made to do.
// tests/launch/mpi_ranks_test.cpp has the real one.
#include "colonnade/comm/detail/mpi_mesh.h"

#include "colonnade/core/error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace colonnade::detail {
namespace {

using testing::ElementsAre;
using testing::FieldsAre;
using testing::IsEmpty;
using Kind = Mesh::Outcome::Kind;

/// What a test sees and sets of a FakePort, which is the mesh's.
struct FakeMpi {
  struct Message {
    const char* kind;
    const void* data;
    int bytes;
    int peer;
    int tag;
  };
  std::vector<Message> messages = {};  ///< A request is an index of these.
  std::map<int, bool> stuck = {};      ///< Peers whose messages do not end.
  std::vector<int64_t> cancelled = {};
  std::string error = {};
  bool closed = false;
};

class FakePort final : public MpiPort {
 public:
  explicit FakePort(FakeMpi& mpi) : mpi_(mpi) {}

  int last_tag() const override { return 99; }
  std::string send(const void* from, int bytes, int peer, int tag,
                   Request& request) noexcept override {
    return start({"send", from, bytes, peer, tag}, request);
  }
  std::string recv(void* to, int bytes, int peer, int tag,
                   Request& request) noexcept override {
    return start({"recv", to, bytes, peer, tag}, request);
  }
  std::string test(Request& request, bool& done) noexcept override {
    done = !mpi_.stuck[mpi_.messages[static_cast<size_t>(request)].peer];
    return {};
  }
  void cancel(Request& request) noexcept override {
    mpi_.cancelled.push_back(request);
  }
  void close() noexcept override { mpi_.closed = true; }

 private:
  std::string start(FakeMpi::Message message, Request& request) {
    request = static_cast<Request>(mpi_.messages.size());
    mpi_.messages.push_back(message);
    return mpi_.error;
  }

  FakeMpi& mpi_;
};

class Fates final : public Rendezvous {
 public:
  void set(const std::string& name, std::string_view value) override {
    values_[name] = value;
  }
  std::string get(const std::string& name, std::chrono::milliseconds) override {
    const auto found = values_.find(name);
    check<CommError>(found != values_.end(), "not set");
    return found->second;
  }

 private:
  std::map<std::string, std::string> values_;
};

class MpiMeshTest : public testing::Test {
 protected:
  Mesh::Outcome wait(std::chrono::milliseconds limit) {
    return mesh_.wait(Mesh::Clock::now() + limit);
  }

  FakeMpi mpi_;
  std::shared_ptr<Fates> fates_ = std::make_shared<Fates>();
  MpiMesh mesh_{std::make_unique<FakePort>(mpi_),
                std::make_shared<ProcessFates>(fates_, 0), Patience{}};
  std::byte data_[8] = {};
};

constexpr std::chrono::milliseconds kLong = std::chrono::seconds(60);

TEST_F(MpiMeshTest, CutsWhatAnIntCannotCount) {
  constexpr size_t kGib = size_t{1} << 30;
  // Of an address that is never read.
  auto* const far = reinterpret_cast<std::byte*>(uintptr_t{1} << 40);
  mesh_.send(far, 2 * kGib + 5, 1, 7);
  mesh_.recv(far, kGib, 2, 8);
  EXPECT_THAT(mpi_.messages,
              ElementsAre(FieldsAre("send", far, kGib, 1, 7),
                          FieldsAre("send", far + kGib, kGib, 1, 7),
                          FieldsAre("send", far + 2 * kGib, 5, 1, 7),
                          FieldsAre("recv", far, kGib, 2, 8)));
  EXPECT_EQ(wait(kLong).kind, Kind::kDone);
}

TEST_F(MpiMeshTest, NamesWhoIsLate) {
  mpi_.stuck = {{1, true}, {3, true}};
  for (const int peer : {3, 2, 1, 3}) {
    mesh_.recv(data_, 1, peer, 0);
  }
  EXPECT_THAT(wait(std::chrono::milliseconds(30)),
              FieldsAre(Kind::kLate, ElementsAre(1, 3), ""));
}

TEST_F(MpiMeshTest, SeesWhoFailed) {
  mpi_.stuck = {{1, true}, {2, true}};
  mesh_.recv(data_, 1, 1, 0);
  mesh_.recv(data_, 1, 2, 0);
  ProcessFates(fates_, 2).failed("the cause");
  EXPECT_THAT(wait(kLong), FieldsAre(Kind::kGone, ElementsAre(2), ""));
}

TEST_F(MpiMeshTest, GivesWhatAReturnedRankSentTimeToArrive) {
  mpi_.stuck = {{1, true}};
  mesh_.recv(data_, 1, 1, 0);
  ProcessFates(fates_, 1).returned();
  EXPECT_EQ(wait(std::chrono::milliseconds(300)).kind, Kind::kLate);
  EXPECT_THAT(wait(kLong), FieldsAre(Kind::kGone, ElementsAre(1), ""));
}

TEST_F(MpiMeshTest, EndsAWaitThatIsInterrupted) {
  mpi_.stuck = {{1, true}};
  mesh_.recv(data_, 1, 1, 0);
  std::thread other([&] { mesh_.interrupt(); });
  EXPECT_EQ(wait(kLong).kind, Kind::kInterrupted);
  other.join();
}

TEST_F(MpiMeshTest, SaysWhatMpiSays) {
  mpi_.error = "MPI_Isend: no such thing";
  mesh_.send(data_, 1, 1, 0);
  EXPECT_THAT(wait(kLong),
              FieldsAre(Kind::kBroken, IsEmpty(), "MPI_Isend: no such thing"));
}

TEST_F(MpiMeshTest, CancelsWhatItWouldReceive) {
  mpi_.stuck = {{1, true}};
  mesh_.send(data_, 1, 1, 0);
  mesh_.recv(data_, 1, 2, 0);
  mesh_.recv(data_, 1, 1, 0);
  EXPECT_EQ(wait(std::chrono::milliseconds(1)).kind, Kind::kLate);
  mesh_.abandon();
  EXPECT_THAT(mpi_.cancelled, ElementsAre(2));
  EXPECT_FALSE(mpi_.closed);
  EXPECT_FALSE(mesh_.is_open());
}

TEST_F(MpiMeshTest, HasMpisTags) {
  EXPECT_EQ(mesh_.tags(), 100u);
  mesh_.close();
  EXPECT_TRUE(mpi_.closed);
  EXPECT_FALSE(mesh_.is_open());
}

}  // namespace
}  // namespace colonnade::detail

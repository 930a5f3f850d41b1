// colonnade/comm/detail/message_backend.cpp
#include "colonnade/comm/detail/message_backend.h"

#include "colonnade/comm/detail/message_group.h"
#include "colonnade/comm/detail/message_world.h"
#include "colonnade/comm/detail/self_backend.h"
#include "colonnade/core/error.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace colonnade::detail {
namespace {

class WorldOfMessages final : public World {
 public:
  explicit WorldOfMessages(std::shared_ptr<MessageWorld> world)
      : world_(std::move(world)) {}

  int rank() const override { return world_->rank; }
  int size() const override { return world_->size; }
  std::string_view backend() const override { return world_->backend(); }

  GroupPtr make_group(std::string name, std::vector<int64_t> ranks) override {
    check_ranks(name, ranks);
    if (ranks.size() == 1) {
      return make_self_group(std::move(name), rank(), world_->timeout);
    }
    world_->check_alive();
    const auto place = std::find(ranks.begin(), ranks.end(), rank());
    const int rank = static_cast<int>(place - ranks.begin());
    return make_message_group(world_, std::move(name), rank, std::move(ranks));
  }

  void abort(std::string_view message) noexcept override {
    try {
      world_->fail(concat("rank ", rank(), " failed: ", message));
    } catch (...) {  // no memory for the text
      world_->fail("a rank failed");
    }
  }

  void look() override { world_->look(); }

  void leave() noexcept override { world_->leave(); }

 private:
  std::shared_ptr<MessageWorld> world_;
};

}  // namespace

WorldPtr make_message_world(const ProcessPlace& place,
                            std::shared_ptr<ProcessFates> fates,
                            std::unique_ptr<Mesh> mesh,
                            std::shared_ptr<const Peers> peers,
                            std::unique_ptr<Heartbeat> heartbeat) {
  return std::make_shared<WorldOfMessages>(
      std::make_shared<MessageWorld>(place, std::move(fates), std::move(mesh),
                                     std::move(peers), std::move(heartbeat)));
}

}  // namespace colonnade::detail

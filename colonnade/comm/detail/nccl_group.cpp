// colonnade/comm/detail/nccl_group.cpp
#include "colonnade/comm/detail/nccl_group.h"

#include "colonnade/comm/exchange.h"
#include "colonnade/core/error.h"

#include <ATen/core/Tensor.h>

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <string>
#include <thread>
#include <utility>

namespace colonnade::detail {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::microseconds;
using std::chrono::milliseconds;

// A call is through in microseconds or waits for a peer's computation.
constexpr microseconds kYield{500};
constexpr microseconds kNap{50};
constexpr milliseconds kBetweenLooks{50};

class NcclGroup final : public Group {
 public:
  NcclGroup(std::shared_ptr<NcclWorld> world, GroupPtr host)
      : Group(host->name(), host->rank(), host->ranks(),
              {at::kCPU, world->device_type()}),
        world_(std::move(world)),
        host_(std::move(host)) {
    set_timeout(host_->timeout());
  }
  ~NcclGroup() override {
    const auto use = world_->use();
    for (const auto& [peer, communicator] : communicators_) {
      communicator->close();
    }
  }
  NcclGroup(const NcclGroup&) = delete;
  NcclGroup& operator=(const NcclGroup&) = delete;

 private:
  static constexpr int kAll = -1;  ///< Instead of a peer.

  bool reduces(const at::Tensor& x, ReduceOp op) const override {
    return x.device().type() == world_->device_type()
               ? NcclCommunicator::combines(x.scalar_type(), op)
               : Group::reduces(x, op);
  }

  bool is_of_host(const at::Tensor& x) {
    host_->set_timeout(timeout());
    return x.is_cpu() && world_->device_type() != at::kCPU;
  }

  /// Makes the call on the device: its stream is through when this returns.
  void exchange(const at::Tensor& x, const at::Tensor& out) {
    const CallKey& key = call().key;
    deadline_ = timeout().count() < 0 ? Clock::time_point::max()
                                      : Clock::now() + timeout();
    const bool is_pair = !call().is_collective() && size() > 2;
    const auto use = world_->use();
    try {
      host_->agree(call());
      NcclCommunicator& communicator =
          communicator_at(x.device(), is_pair ? key.peer : kAll);
      // Nothing comes of an empty one, and it may have no memory.
      if (x.numel() > 0) {
        run(communicator, {.collective = key.collective,
                           .op = key.reduce,
                           .peer = is_pair ? other_of_pair(key.peer) : key.peer,
                           .dtype = x.scalar_type(),
                           .from = x.const_data_ptr(),
                           .to = out.mutable_data_ptr(),
                           .from_numel = x.numel(),
                           .to_numel = out.numel()});
      }
    } catch (const CommError& error) {
      world_->fail(error.what());
      throw;
    }
  }

  /// A pair's ranks are 0 and 1, in order.
  int other_of_pair(int peer) const { return rank() < peer ? 1 : 0; }

  /// That of all, or of this rank and `peer`; at the first call collective over
  /// its members.
  NcclCommunicator& communicator_at(at::Device device, int peer) {
    if (const auto found = communicators_.find(peer);
        found != communicators_.end()) {
      return *found->second;
    }
    if (queue_ == nullptr) {
      keep_to(device);
      queue_ = world_->queue(device);
    }
    // Calls of one of its own: the host's group counts those of this one.
    const GroupPtr members = world_->host().make_group(
        concat(name(), "/nccl"), peer == kAll ? ranks() : pair_with(peer));
    const auto communicator = world_->open(device, make_id(*members),
                                           members->rank(), members->size());
    communicators_.emplace(peer, communicator);
    wait_until([&] { return is_host_done(*communicator); });
    return *communicator;
  }

  std::vector<int64_t> pair_with(int peer) const {
    const auto [first, second] = std::minmax({rank(), peer});
    return {ranks()[static_cast<size_t>(first)],
            ranks()[static_cast<size_t>(second)]};
  }

  nccl::UniqueId make_id(Group& members) {
    nccl::UniqueId id{};
    std::string text;
    if (members.rank() == 0 &&
        world_->api().get_unique_id(&id) == nccl::Result::kSuccess) {
      text.assign(id.internal, sizeof(id.internal));
    }
    members.set_timeout(timeout());
    text = broadcast_bytes(members, text, 0);
    check<CommError>(text.size() == sizeof(id.internal), "nccl: rank ",
                     members.ranks()[0],
                     " gets no ncclUniqueId; with NCCL_DEBUG=WARN in the "
                     "environment NCCL says why");
    std::memcpy(id.internal, text.data(), text.size());
    return id;
  }

  void run(NcclCommunicator& communicator,
           const NcclCommunicator::Transfer& transfer) {
    auto* const stream = static_cast<nccl::Stream*>(queue_->stream());
    check_good(communicator.start(transfer, stream));
    wait_until([&] { return is_host_done(communicator); });
    queue_->mark();
    wait_until([&] { return is_host_done(communicator) && queue_->is_done(); });
  }

  bool is_host_done(NcclCommunicator& communicator) {
    const NcclCommunicator::Progress progress = communicator.poll();
    check_good(progress.error);
    return !progress.is_under_way;
  }

  void check_good(const std::string& error) const {
    check<CommError>(error.empty(), "nccl: rank ", world_->host().rank(),
                     " cannot go on: ", error);
  }

  template <typename Done>
  void wait_until(Done done) {
    const auto start = Clock::now();
    auto next_look = start + kBetweenLooks;
    while (!done()) {
      const auto now = Clock::now();
      check<CommError>(now < deadline_, "nccl: rank ", world_->host().rank(),
                       " waited ", timeout().count(), " ms in ",
                       describe(calls().latest()),
                       ": its device, or that of another rank, did not come "
                       "to the end of it");
      if (now >= next_look) {
        world_->host().look();
        next_look = now + kBetweenLooks;
      }
      if (now - start < kYield) {
        sched_yield();
      } else {
        std::this_thread::sleep_for(kNap);
      }
    }
  }

  void do_all_reduce(at::Tensor& x, ReduceOp op) override {
    if (is_of_host(x)) {
      return host_->all_reduce(x, op);
    }
    exchange(x, x);
  }
  void do_all_gather(at::Tensor& out, const at::Tensor& x) override {
    if (is_of_host(x)) {
      return host_->all_gather(out, x);
    }
    exchange(x, out);
  }
  void do_reduce_scatter(at::Tensor& out, const at::Tensor& x,
                         ReduceOp op) override {
    if (is_of_host(x)) {
      return host_->reduce_scatter(out, x, op);
    }
    exchange(x, out);
  }
  void do_broadcast(at::Tensor& x, int root) override {
    if (is_of_host(x)) {
      return host_->broadcast(x, root);
    }
    exchange(x, x);
  }
  void do_all_to_all(at::Tensor& out, const at::Tensor& x) override {
    if (is_of_host(x)) {
      return host_->all_to_all(out, x);
    }
    exchange(x, out);
  }
  void do_send(const at::Tensor& x, int dst) override {
    if (is_of_host(x)) {
      return host_->send(x, dst);
    }
    exchange(x, x);
  }
  void do_recv(at::Tensor& x, int src) override {
    if (is_of_host(x)) {
      return host_->recv(x, src);
    }
    exchange(x, x);
  }
  void do_barrier() override {
    host_->set_timeout(timeout());
    host_->barrier();
  }

  std::shared_ptr<NcclWorld> world_;
  GroupPtr host_;
  Clock::time_point deadline_;
  std::unique_ptr<DeviceQueue> queue_;  ///< From the first call on.
  std::map<int, std::shared_ptr<NcclCommunicator>>
      communicators_;  ///< By peer.
};

}  // namespace

NcclWorld::NcclWorld(WorldPtr host, const nccl::Api& api,
                     at::DeviceType device_type,
                     std::unique_ptr<DeviceQueue> (*queue_of)(at::Device))
    : host_(std::move(host)),
      api_(api),
      device_type_(device_type),
      queue_of_(queue_of) {}

std::shared_ptr<NcclCommunicator> NcclWorld::open(at::Device device,
                                                  const nccl::UniqueId& id,
                                                  int rank, int size) {
  std::erase_if(communicators_, [](const auto& one) { return one.expired(); });
  auto communicator =
      std::make_shared<NcclCommunicator>(api_, device, id, rank, size);
  communicators_.push_back(communicator);
  return communicator;
}

void NcclWorld::abort_communicators() noexcept {
  for (const auto& one : communicators_) {
    if (const auto communicator = one.lock()) {
      communicator->abort();
    }
  }
}

void NcclWorld::fail(std::string_view message) noexcept {
  abort_communicators();
  host_->abort(message);
}

void NcclWorld::abort(std::string_view message) noexcept {
  host_->abort(message);  // which a call in progress sees, and ends
  const auto lock = use();
  abort_communicators();
}

void NcclWorld::leave() noexcept {
  const auto lock = use();
  for (const auto& one : communicators_) {
    if (const auto communicator = one.lock()) {
      communicator->close();
    }
  }
  host_->leave();
}

GroupPtr make_nccl_group(std::shared_ptr<NcclWorld> world, GroupPtr host) {
  return c10::make_intrusive<NcclGroup>(std::move(world), std::move(host));
}

}  // namespace colonnade::detail

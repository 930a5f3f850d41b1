// colonnade/comm/detail/nccl_group.h
#pragma once

#include "colonnade/comm/detail/device_queue.h"
#include "colonnade/comm/detail/nccl_api.h"
#include "colonnade/comm/detail/nccl_communicator.h"
#include "colonnade/comm/group.h"
#include "colonnade/comm/world.h"
#include "colonnade/core/api.h"

#include <memory>
#include <mutex>
#include <string_view>
#include <vector>

namespace colonnade::detail {

/// What the groups of one rank share: the world through which the hosts speak,
/// and the communicators that end with it. One thread uses it at a time, but
/// for `abort`.
class COLONNADE_API NcclWorld {
 public:
  /// queue_of  makes the queue of a rank's device
  NcclWorld(WorldPtr host, const nccl::Api& api, at::DeviceType device_type,
            std::unique_ptr<DeviceQueue> (*queue_of)(at::Device));

  World& host() { return *host_; }
  const nccl::Api& api() const { return api_; }
  at::DeviceType device_type() const { return device_type_; }
  std::unique_ptr<DeviceQueue> queue(at::Device device) const {
    return queue_of_(device);
  }

  /// Starts one, which ends with this world.
  std::shared_ptr<NcclCommunicator> open(at::Device device,
                                         const nccl::UniqueId& id, int rank,
                                         int size);
  /// Held by whoever uses communicators; `wait_until` of a holder looks whether
  /// the world has failed.
  std::unique_lock<std::mutex> use() { return std::unique_lock(using_); }

  /// Ends all, and the host's world for this rank. The caller has `use()`.
  void fail(std::string_view message) noexcept;
  /// The same, from any thread that has not.
  void abort(std::string_view message) noexcept;
  void leave() noexcept;

 private:
  void abort_communicators() noexcept;

  std::mutex using_;
  WorldPtr host_;
  const nccl::Api& api_;
  at::DeviceType device_type_;
  std::unique_ptr<DeviceQueue> (*queue_of_)(at::Device);
  std::vector<std::weak_ptr<NcclCommunicator>> communicators_;
};

/// A group over NCCL, beside one of the same members in which their hosts
/// speak: that one compares each call, exchanges tensors on the CPU, and finds
/// out who is lost. The communicator, and one for each pair that sends, is made
/// at the first tensor on a device, and the group stays with that device.
COLONNADE_API GroupPtr make_nccl_group(std::shared_ptr<NcclWorld> world,
                                       GroupPtr host);

}  // namespace colonnade::detail

// colonnade/comm/detail/nccl_backend.cpp
#include "colonnade/comm/detail/nccl_backend.h"

#include "colonnade/comm/detail/device_queue.h"
#include "colonnade/comm/detail/gloo_backend.h"
#include "colonnade/comm/detail/nccl_api.h"
#include "colonnade/comm/detail/nccl_group.h"
#include "colonnade/comm/detail/peers.h"
#include "colonnade/comm/detail/shm_backend.h"
#include "colonnade/comm/detail/threads_backend.h"
#include "colonnade/core/error.h"

#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <memory>
#include <utility>

namespace colonnade::detail {
namespace {

class WorldOfNccl final : public World {
 public:
  explicit WorldOfNccl(WorldPtr host)
      : world_(std::make_shared<NcclWorld>(std::move(host), nccl::library().api,
                                           at::kCUDA, queue_of)) {}

  int rank() const override { return world_->host().rank(); }
  int size() const override { return world_->host().size(); }
  std::string_view backend() const override { return "nccl"; }

  GroupPtr make_group(std::string name, std::vector<int64_t> ranks) override {
    const bool is_alone = ranks.size() == 1;
    GroupPtr host =
        world_->host().make_group(std::move(name), std::move(ranks));
    return is_alone ? host : make_nccl_group(world_, std::move(host));
  }

  void abort(std::string_view message) noexcept override {
    world_->abort(message);
  }
  void look() override { world_->host().look(); }
  void leave() noexcept override { world_->leave(); }
  void begin_call(uint64_t call) noexcept override {
    world_->host().begin_call(call);
  }
  void rest(uint64_t call) noexcept override { world_->host().rest(call); }

 private:
  std::shared_ptr<NcclWorld> world_;
};

void check_can_run() {
  const std::string why_not = why_no_nccl();
  check_arg(why_not.empty(), "nccl: cannot be used: ", why_not);
}

}  // namespace

int cuda_devices() {
  // Before torch_cuda is loaded its hooks must not be asked for: torch would
  // remember for good that there are none. The guard's own count will not do:
  // where there is no device, Python's torch may have a fake that counts some.
  return c10::impl::hasDeviceGuardImpl(at::kCUDA)
             ? at::detail::getCUDAHooks().deviceCount()
             : 0;
}

std::string why_no_nccl() {
  if (!c10::impl::hasDeviceGuardImpl(at::kCUDA)) {
    return "torch's CUDA libraries are not loaded; link libtorch_cuda.so of a "
           "torch that has it (CMake: TorchWheel::cuda)";
  }
  return cuda_devices() == 0 ? "there is no CUDA device"
                             : nccl::library().why_not;
}

std::vector<WorldPtr> make_nccl_thread_worlds(
    int size, std::chrono::milliseconds timeout) {
  check_can_run();
  check_arg(size <= cuda_devices(), "nccl: ", size,
            " thread ranks need a device each, and there are ", cuda_devices(),
            "; start fewer");
  std::vector<WorldPtr> worlds;
  for (WorldPtr& host : make_thread_worlds(size, timeout)) {
    worlds.push_back(std::make_shared<WorldOfNccl>(std::move(host)));
  }
  return worlds;
}

WorldPtr make_nccl_world(const ProcessPlace& place) {
  check_can_run();
  const auto peers = std::make_shared<const Peers>(place);
  return std::make_shared<WorldOfNccl>(peers->share_host() &&
                                               why_no_shm().empty()
                                           ? make_shm_world(place)
                                           : make_gloo_world(place, peers));
}

}  // namespace colonnade::detail

// colonnade/comm/detail/device_queue.cpp
#include "colonnade/comm/detail/device_queue.h"

#include <c10/core/Event.h>
#include <c10/core/Stream.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace colonnade::detail {
namespace {

class TorchQueue final : public DeviceQueue {
 public:
  explicit TorchQueue(c10::Device device)
      : device_(device), streams_(device.type()), event_(device.type()) {}

  void* stream() override {
    return streams_.getStreamNativeHandle(streams_.getStream(device_));
  }
  void mark() override { event_.record(streams_.getStream(device_)); }
  bool is_done() override { return event_.query(); }

 private:
  c10::Device device_;
  c10::impl::VirtualGuardImpl streams_;
  c10::Event event_;
};

}  // namespace

std::unique_ptr<DeviceQueue> queue_of(c10::Device device) {
  return std::make_unique<TorchQueue>(device);
}

}  // namespace colonnade::detail

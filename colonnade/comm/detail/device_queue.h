// colonnade/comm/detail/device_queue.h
#pragma once

#include <c10/core/Device.h>

#include <memory>

namespace colonnade::detail {

/// The work that a rank has given to its device: the calling thread's current
/// stream there.
class DeviceQueue {
 public:
  virtual ~DeviceQueue() = default;

  /// The stream as its library knows it, such as a cudaStream_t. The device is
  /// the thread's current one.
  virtual void* stream() = 0;
  /// Notes what the stream holds now.
  virtual void mark() = 0;
  /// Whether all of that is done. Never waits.
  virtual bool is_done() = 0;
};

/// That of `device`, by torch's own streams and events: needs no header of
/// CUDA's.
std::unique_ptr<DeviceQueue> queue_of(c10::Device device);

}  // namespace colonnade::detail

// tests/comm/fake_nccl.h
#pragma once

#include "colonnade/comm/detail/device_queue.h"
#include "colonnade/comm/detail/nccl_api.h"

#include <c10/core/Device.h>

#include <atomic>
#include <memory>

namespace colonnade {

/// A NCCL between the threads of this process, whose devices are the CPU: a
/// call goes into a queue of the thread's, and is carried out when the queue is
/// asked whether it is done. It refuses what the real one would.
const detail::nccl::Api& fake_nccl();

/// The calling thread's queue.
std::unique_ptr<detail::DeviceQueue> fake_queue(c10::Device device);

/// What a test has it do, and sees of it.
struct FakeNccl {
  std::atomic<bool> is_stuck = false;  ///< No queue comes to an end.
  std::atomic<bool> refuses = false;   ///< ncclAllReduce returns an error.
  std::atomic<int> opened = 0;
  std::atomic<int> closed = 0;
  std::atomic<int> aborted = 0;

  static FakeNccl& state();
  void reset();
};

}  // namespace colonnade

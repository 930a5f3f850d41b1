#include "colonnade/comm/call_log.h"

#include <algorithm>
#include <ctime>

namespace colonnade {

std::vector<CallRecord> CallLog::records() const {
  std::vector<CallRecord> all;
  const uint64_t kept = std::min<uint64_t>(begun_, kCapacity);
  for (uint64_t i = begun_ - kept; i < begun_; ++i) {
    all.push_back(records_[i % kCapacity]);
  }
  return all;
}

std::optional<CallRecord> CallLog::peek() const noexcept {
  const uint64_t version = version_.load(std::memory_order_acquire);
  if (version == 0 || version % 2 == 1) {
    return std::nullopt;
  }
  const CallRecord record = latest();
  std::atomic_thread_fence(std::memory_order_acquire);
  if (version_.load(std::memory_order_relaxed) != version) {
    return std::nullopt;
  }
  return record;
}

int64_t CallLog::now_ns() noexcept {
  // 5 ns, where the exact clock takes 25.
  timespec now{};
  clock_gettime(CLOCK_REALTIME_COARSE, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

}  // namespace colonnade

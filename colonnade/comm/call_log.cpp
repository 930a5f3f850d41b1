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

int64_t CallLog::now_ns() noexcept {
  // 5 ns, where the exact clock takes 25.
  timespec now{};
  clock_gettime(CLOCK_REALTIME_COARSE, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

}  // namespace colonnade

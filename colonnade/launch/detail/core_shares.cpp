// colonnade/launch/detail/core_shares.cpp
#include "colonnade/launch/detail/core_shares.h"

#include "colonnade/core/cores.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>

namespace colonnade::detail {

CoreShares::CoreShares(int ranks, bool pin)
    : intra_op_threads_(std::max(1, usable_cores() / ranks)) {
  if (pin && ranks <= usable_cores()) {
    cores_ = allowed_cores();
    share_ = cores_.size() / static_cast<size_t>(ranks);
  }
}

void CoreShares::pin(int rank) const {
  if (cores_.empty()) {
    return;
  }
  cpu_set_t set;
  CPU_ZERO(&set);
  for (size_t i = 0; i < share_; ++i) {
    CPU_SET(cores_[static_cast<size_t>(rank) * share_ + i], &set);
  }
  pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
}

}  // namespace colonnade::detail

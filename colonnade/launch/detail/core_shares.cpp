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
    cores_.resize(share_ * static_cast<size_t>(ranks));
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

void CoreShares::make_way() const {
  const auto others = cores_.begin() + static_cast<ptrdiff_t>(share_);
  if (std::find(others, cores_.end(), sched_getcpu()) == cores_.end()) {
    return;
  }
  cpu_set_t allowed;
  if (pthread_getaffinity_np(pthread_self(), sizeof(allowed), &allowed) == 0 &&
      std::any_of(cores_.begin(), others,
                  [&](int core) { return CPU_ISSET(core, &allowed); })) {
    pin(0);
    pthread_setaffinity_np(pthread_self(), sizeof(allowed), &allowed);
  }
}

}  // namespace colonnade::detail

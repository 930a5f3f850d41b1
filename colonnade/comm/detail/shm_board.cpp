// colonnade/comm/detail/shm_board.cpp
#include "colonnade/comm/detail/shm_board.h"

#include "colonnade/core/error.h"

#include <algorithm>
#include <type_traits>

namespace colonnade::detail {

// Fresh memory is zeros, which is what the ranks' entries start as.
static_assert(std::atomic<uint64_t>::is_always_lock_free &&
              std::atomic<bool>::is_always_lock_free);
static_assert(std::is_trivially_copyable_v<ShmPlace>);

size_t ShmBoard::bytes(int size) {
  return sizeof(Header) + static_cast<size_t>(size) * sizeof(ShmRank) +
         kMaxRecords * sizeof(ShmRecord);
}

ShmBoard::Header& ShmBoard::header() const {
  return *reinterpret_cast<Header*>(memory_);
}

ShmRank& ShmBoard::rank(int64_t rank) const {
  auto* const ranks = reinterpret_cast<ShmRank*>(memory_ + sizeof(Header));
  return ranks[rank];
}

ShmRecord& ShmBoard::record(uint32_t meeting) const {
  auto* const records = reinterpret_cast<ShmRecord*>(
      memory_ + sizeof(Header) + static_cast<size_t>(size_) * sizeof(ShmRank));
  return records[meeting];
}

uint32_t ShmBoard::records() const {
  return std::min(kMaxRecords, header().records.load());
}

uint32_t ShmBoard::new_record() const {
  const uint32_t meeting = header().records.fetch_add(1);
  if (meeting >= kMaxRecords) {
    header().records.store(kMaxRecords);
    throw CommError(
        concat("shm: a world makes at most ", kMaxRecords,
               " groups; keep groups instead of making them again"));
  }
  return meeting;
}

std::atomic<int32_t>& ShmBoard::failed_by() const {
  return header().failed_by;
}

}  // namespace colonnade::detail

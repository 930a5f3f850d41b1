// colonnade/comm/detail/shm_board.h
#pragma once

#include "colonnade/comm/call.h"
#include "colonnade/comm/detail/meeting.h"

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace colonnade::detail {

inline constexpr int kMaxShmRanks = 256;

/// What one rank is doing, as others see it.
struct ShmPlace {
  static constexpr uint32_t kNone = ~uint32_t{0};

  uint32_t meeting = kNone;  ///< The number of its meeting; `kNone` at first.
  bool waits = false;        ///< Asleep, for the others to arrive.
  uint64_t round = 0;
  Call call;
};

/// What one rank writes and all read. Nothing here is ever locked: what a rank
/// was writing when it died counts as not there.
struct alignas(64) ShmRank {
  std::atomic<int32_t> pid;
  std::atomic<uint64_t> start;  ///< HostProcess::start_of its process.
  std::atomic<bool> left;
  std::atomic<bool> in_call;
  std::atomic<uint32_t> gates;  ///< That it has come to in its call.

  std::atomic<uint64_t> version;  ///< Of the place; odd while it is written.
  ShmPlace place;
  char reason[4096];  ///< Why the world failed, where this rank said so.

  void write(const ShmPlace& to) {
    const uint64_t before = version.load(std::memory_order_relaxed);
    version.store(before + 1, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_release);
    place = to;
    version.store(before + 2, std::memory_order_release);
  }
};

/// What all may know of a meeting, whether they are members or not.
struct alignas(64) ShmRecord {
  Gates gates;
  std::atomic<bool> ready;  ///< All else is written, and stays.
  bool pair;
  int32_t size;
  std::array<int16_t, kMaxShmRanks> ranks;
  char name[128];  ///< As in 'group "tp"'; cut where it is longer.
  // Of groups, by which the members find it.
  uint64_t name_hash;
  uint64_t turn;      ///< How many groups of this name and ranks came before.
  char address[128];  ///< Of the group's memory.
  Gate entrance;      ///< Open when every member has that memory.
  std::array<std::atomic<bool>, kMaxShmRanks> entered;  ///< By group rank.

  std::vector<int64_t> rank_list() const {
    return {ranks.begin(), ranks.begin() + size};
  }
};

/// The memory that all ranks of a world share: where each of them is, and all
/// meetings there ever were, so that anyone can shut their gates.
class ShmBoard {
 public:
  static constexpr uint32_t kMaxRecords = uint32_t{1} << 18;

  /// memory  `bytes(size)` of them, zero at first, that stay longer
  ShmBoard(std::byte* memory, int size) : memory_(memory), size_(size) {}

  static size_t bytes(int size);

  ShmRank& rank(int64_t rank) const;
  ShmRecord& record(uint32_t meeting) const;
  /// How many have been begun; those at the end may not be ready.
  uint32_t records() const;
  /// The number of a new record, for `publish`. CommError where all are taken.
  uint32_t new_record() const;

  /// The rank that has failed first, + 1; 0 where none has.
  std::atomic<int32_t>& failed_by() const;

 private:
  struct alignas(64) Header {
    std::atomic<int32_t> failed_by;
    std::atomic<uint32_t> records;
  };

  Header& header() const;

  std::byte* memory_;
  int size_;
};

}  // namespace colonnade::detail

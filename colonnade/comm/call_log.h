#pragma once

#include "colonnade/comm/call.h"
#include "colonnade/core/api.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

namespace colonnade {

/// A call of a group, as one rank remembers it.
struct CallRecord {
  Call call;
  /// Which it is of the group's collectives, or else of this rank's sends and
  /// receives in the group; from 1 on.
  uint64_t number = 0;
  // Nanoseconds since 1970, to a few milliseconds.
  int64_t begun_ns = 0;
  int64_t ended_ns = 0;  ///< 0 where it has not ended, or has failed.
};

/// The last calls of one rank in a group, written in every call.
class COLONNADE_API CallLog {
 public:
  static constexpr size_t kCapacity = 256;

  CallLog() : records_(std::make_unique<CallRecord[]>(kCapacity)) {}

  void begin(const Call& call) noexcept {
    uint64_t& number = call.is_collective() ? collectives_ : transfers_;
    const uint64_t writing = version_.load(std::memory_order_relaxed) + 1;
    version_.store(writing, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_release);
    CallRecord& record = records_[begun_++ % kCapacity];
    record.call = call;
    record.number = ++number;
    record.begun_ns = now_ns();
    record.ended_ns = 0;
    version_.store(writing + 1, std::memory_order_release);
  }
  void end() noexcept {
    records_[(begun_ - 1) % kCapacity].ended_ns = now_ns();
  }

  /// How many there ever were; the last kCapacity of them are kept.
  uint64_t begun() const { return begun_; }
  /// At least one has begun.
  const CallRecord& latest() const {
    return records_[(begun_ - 1) % kCapacity];
  }
  /// The oldest first.
  std::vector<CallRecord> records() const;
  /// The latest, for another thread than the rank's; empty where there is none,
  /// or the rank is about to begin one.
  std::optional<CallRecord> peek() const noexcept;

 private:
  static int64_t now_ns() noexcept;

  std::unique_ptr<CallRecord[]> records_;
  std::atomic<uint64_t> version_{0};  // odd while a call is noted
  uint64_t begun_ = 0;
  uint64_t collectives_ = 0;
  uint64_t transfers_ = 0;
};

}  // namespace colonnade

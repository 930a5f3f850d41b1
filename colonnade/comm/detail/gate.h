// colonnade/comm/detail/gate.h
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace colonnade::detail {

/// Where the ranks of a group meet, round after round. Lies in the memory of
/// their process, or in memory that their processes share.
///
/// A round is open when all members have arrived. Shutting the gate decides at
/// one instant, for all members alike, whether the round in progress was open
/// before (then every member goes through) or never will be (then none does).
/// So a member that is turned away knows that no peer is in its memory.
///
/// Each change is one instruction on one word: a process that dies between any
/// two leaves a gate that works.
class alignas(64) Gate {
 public:
  enum class State { kWaiting, kOpen, kShut };
  enum class Reach : uint8_t { kProcess, kHost };

  explicit Gate(int members, Reach reach = Reach::kProcess)
      : members_(static_cast<uint64_t>(members)), reach_(reach) {}

  /// Counts the caller in for its current round.
  void arrive() {
    const uint64_t before =
        word_.fetch_add(kArrival, std::memory_order_acq_rel);
    if ((before & kSleepers) != 0) {
      wake();
    }
  }

  /// How it stands with `round`, counted from 0, for a member that arrived.
  State state(uint64_t round) const {
    const uint64_t word = word_.load(std::memory_order_acquire);
    const uint64_t needed = members_ * (round + 1);
    if ((word & kShut) == 0) [[likely]] {
      return reached(word / kArrival, needed) ? State::kOpen : State::kWaiting;
    }
    return reached(word, needed) ? State::kOpen : State::kShut;
  }

  /// Lets no further round open. May be called by anyone, repeatedly.
  void shut() noexcept;

  /// Blocks while `round` is waiting, for at most `limit`; may return early.
  void sleep(uint64_t round, std::chrono::nanoseconds limit);

 private:
  // Low to high: the arrivals when it was shut; two flags; the arrivals, which
  // wrap. All in one word, so that each change has one place in one order;
  // sleepers wait on the upper half, where all is that wakes them.
  static constexpr uint64_t kCounts = (uint64_t{1} << 30) - 1;
  static constexpr uint64_t kShut = uint64_t{1} << 32;
  static constexpr uint64_t kSleepers = uint64_t{1} << 33;
  static constexpr uint64_t kArrival = uint64_t{1} << 34;

  static bool reached(uint64_t arrivals, uint64_t needed) {
    return ((arrivals - needed) & kCounts) <= kCounts / 2;
  }

  void wake() noexcept;

  std::atomic<uint64_t> word_{0};
  uint64_t members_;
  Reach reach_;
};

}  // namespace colonnade::detail

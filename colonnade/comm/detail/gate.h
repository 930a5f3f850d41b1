// colonnade/comm/detail/gate.h
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace colonnade::detail {

/// Where the threads of a group meet, round after round.
///
/// A round is open when all members have arrived. Shutting the gate decides at
/// one instant, for all members alike, whether the round in progress was open
/// before (then every member goes through) or never will be (then none does).
/// So a member that is turned away knows that no peer is in its memory.
class alignas(64) Gate {
 public:
  enum class State { kWaiting, kOpen, kShut };

  explicit Gate(int members) : members_(static_cast<uint64_t>(members)) {}

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
      return word / kArrival >= needed ? State::kOpen : State::kWaiting;
    }
    return state_when_shut(needed);
  }

  /// Lets no further round open. May be called by any thread, repeatedly.
  void shut() noexcept;

  /// Blocks while `round` is waiting, for at most `limit`; may return early.
  void sleep(uint64_t round, std::chrono::nanoseconds limit);

 private:
  // Arrivals are counted above two flags, all in one word, so that each change
  // has one place in one order; sleepers wait on its lower half.
  static constexpr uint64_t kShut = 1;
  static constexpr uint64_t kSleepers = 2;
  static constexpr uint64_t kArrival = 4;
  static constexpr uint64_t kUnknown = ~uint64_t{0};

  void wake() noexcept;
  State state_when_shut(uint64_t needed) const;

  std::atomic<uint64_t> word_{0};
  std::atomic<uint64_t> arrivals_when_shut_{kUnknown};
  uint64_t members_;
};

}  // namespace colonnade::detail

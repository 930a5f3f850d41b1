// colonnade/comm/detail/gate.cpp
#include "colonnade/comm/detail/gate.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bit>
#include <climits>
#include <ctime>

namespace colonnade::detail {
namespace {

static_assert(std::endian::native == std::endian::little,
              "a futex is the lower half of the gate's word");
static_assert(std::atomic<uint64_t>::is_always_lock_free);

long futex(const std::atomic<uint64_t>& word, int op, uint32_t value,
           const timespec* limit) {
  return syscall(SYS_futex, &word, op, value, limit, nullptr, 0);
}

}  // namespace

void Gate::wake() noexcept {
  word_.fetch_and(~kSleepers, std::memory_order_acq_rel);
  futex(word_, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr);
}

void Gate::shut() noexcept {
  const uint64_t before = word_.fetch_or(kShut, std::memory_order_acq_rel);
  if ((before & kShut) == 0) {
    arrivals_when_shut_.store(before / kArrival, std::memory_order_release);
  }
  wake();
}

Gate::State Gate::state_when_shut(uint64_t needed) const {
  uint64_t arrivals = arrivals_when_shut_.load(std::memory_order_acquire);
  while (arrivals == kUnknown) {  // the shutting thread is between two lines
    sched_yield();
    arrivals = arrivals_when_shut_.load(std::memory_order_acquire);
  }
  return arrivals >= needed ? State::kOpen : State::kShut;
}

void Gate::sleep(uint64_t round, std::chrono::nanoseconds limit) {
  const uint64_t word =
      word_.fetch_or(kSleepers, std::memory_order_acq_rel) | kSleepers;
  if (state(round) != State::kWaiting) {
    return;
  }
  // The kernel sleeps only if the word is still what it was before the check.
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(limit);
  timespec time{};
  time.tv_sec = seconds.count();
  time.tv_nsec = (limit - seconds).count();
  futex(word_, FUTEX_WAIT_PRIVATE, static_cast<uint32_t>(word), &time);
}

}  // namespace colonnade::detail

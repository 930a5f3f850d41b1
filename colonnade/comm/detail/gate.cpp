// colonnade/comm/detail/gate.cpp
#include "colonnade/comm/detail/gate.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bit>
#include <climits>
#include <ctime>

namespace colonnade::detail {
namespace {

static_assert(std::endian::native == std::endian::little,
              "a futex is the upper half of the gate's word");
static_assert(std::atomic<uint64_t>::is_always_lock_free);

long futex(const std::atomic<uint64_t>& word, int op, Gate::Reach reach,
           uint64_t value, const timespec* limit) {
  const int flags =
      reach == Gate::Reach::kProcess ? op | FUTEX_PRIVATE_FLAG : op;
  return syscall(SYS_futex, reinterpret_cast<const uint32_t*>(&word) + 1, flags,
                 static_cast<uint32_t>(value), limit, nullptr, 0);
}

}  // namespace

void Gate::wake() noexcept {
  word_.fetch_and(~kSleepers, std::memory_order_acq_rel);
  futex(word_, FUTEX_WAKE, reach_, INT_MAX, nullptr);
}

void Gate::shut() noexcept {
  uint64_t word = word_.load(std::memory_order_acquire);
  while ((word & kShut) == 0 &&
         !word_.compare_exchange_weak(word, word | kShut | (word / kArrival),
                                      std::memory_order_acq_rel)) {}
  wake();
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
  futex(word_, FUTEX_WAIT, reach_, word >> 32, &time);
}

}  // namespace colonnade::detail

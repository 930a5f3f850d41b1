// colonnade/comm/detail/patience.cpp
#include "colonnade/comm/detail/patience.h"

#include "colonnade/comm/asleep.h"
#include "colonnade/core/cores.h"

#include <sched.h>

#include <utility>

namespace colonnade {
namespace {

thread_local bool waits_asleep = false;

/// How often in a row this thread has spun in vain.
thread_local unsigned vain_spins = 0;

}  // namespace

AsleepScope::AsleepScope() : previous_(std::exchange(waits_asleep, true)) {}

AsleepScope::~AsleepScope() {
  waits_asleep = previous_;
}

namespace detail {
namespace {

using Clock = std::chrono::steady_clock;

void pause_core() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/// Where others have the cores, the peer may be waiting for this one: then a
/// little, and now and then for as long as before, to see whether that is over.
Clock::duration spin_time(Patience patience) {
  return vain_spins < 4 || vain_spins % 64 == 0 ? patience.spin
                                                : patience.spin / 64;
}

}  // namespace

Patience patience_for(int threads) {
  const bool have_cores = threads <= usable_cores();
  return {.spin = std::chrono::microseconds(have_cores ? 500 : 0),
          .yield = std::chrono::microseconds(have_cores ? 0 : 100)};
}

Gate::State look_awake(const Gate& gate, uint64_t round, Patience patience) {
  constexpr int kLooksPerClock = 64;
  Gate::State state = gate.state(round);
  for (int i = 0; state == Gate::State::kWaiting && i < kLooksPerClock; ++i) {
    pause_core();
    state = gate.state(round);
  }
  if (state != Gate::State::kWaiting || waits_asleep) [[likely]] {
    return state;
  }
  const auto start = Clock::now();
  const Clock::duration spin = spin_time(patience);
  while (state == Gate::State::kWaiting && Clock::now() - start < spin) {
    for (int i = 0; state == Gate::State::kWaiting && i < kLooksPerClock; ++i) {
      pause_core();
      state = gate.state(round);
    }
  }
  vain_spins = state == Gate::State::kWaiting ? vain_spins + 1 : 0;
  const Clock::duration awake = spin + patience.yield;
  while (state == Gate::State::kWaiting && Clock::now() - start < awake) {
    sched_yield();
    state = gate.state(round);
  }
  return state;
}

Gate::State wait(Gate& gate, uint64_t round, Patience patience) {
  Gate::State state = look_awake(gate, round, patience);
  while (state == Gate::State::kWaiting) {
    gate.sleep(round, std::chrono::seconds(10));
    state = look_awake(gate, round, patience);
  }
  return state;
}

}  // namespace detail
}  // namespace colonnade

// colonnade/comm/detail/patience.h
#pragma once

#include "colonnade/comm/detail/gate.h"

#include <chrono>
#include <cstdint>

namespace colonnade::detail {

/// How long a thread waits awake before it sleeps. Times, not counts: where
/// others are at work, one offer of the core can take 4 ms.
struct Patience {
  std::chrono::microseconds spin;   ///< Looks with a pause between them.
  std::chrono::microseconds yield;  ///< Then with the core offered to others.
};

/// That of `threads` threads which wait for each other. Those that all have a
/// core spin for longer than they usually differ, then sleep: other programs
/// must have the core that the peer lacks, and would keep one that is offered
/// for some ms. Others yield at once, since the peer may need this core to
/// arrive.
Patience patience_for(int threads);

/// Looks at `round` until it is not waiting or the patience is at an end.
Gate::State look_awake(const Gate& gate, uint64_t round, Patience patience);

/// Returns when `round` is open or shut: looks awake, then sleeps.
Gate::State wait(Gate& gate, uint64_t round, Patience patience);

}  // namespace colonnade::detail

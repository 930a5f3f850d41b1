// colonnade/core/detail/signals.h
#pragma once

#include <signal.h>

namespace colonnade::detail {

/// For a thread of the library: signals are for the program's own threads.
inline void block_signals() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
}

}  // namespace colonnade::detail

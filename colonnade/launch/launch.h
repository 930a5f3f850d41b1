// colonnade/launch/launch.h
#pragma once

#include "colonnade/comm/group.h"
#include "colonnade/core/api.h"

#include <chrono>
#include <concepts>
#include <functional>
#include <string>
#include <utility>

namespace colonnade {

struct LaunchOptions {
  /// Ranks to make, as threads, where no launcher made them.
  int threads = 1;
  /// A name of the backend table; empty: the one that fits. One rank alone
  /// needs none, though its ranks be processes.
  std::string backend = {};
  /// How long a collective may wait for a peer; negative is for ever.
  std::chrono::milliseconds timeout = kDefaultTimeout;
  /// Pin each thread rank to its share of the cores, where they go round.
  bool pin = true;
};

namespace detail {

COLONNADE_API void run_thread_ranks(int n, const std::function<void(int)>& body,
                                    const LaunchOptions& options);
COLONNADE_API void launch_ranks(const std::function<void(int)>& body,
                                const LaunchOptions& options);

/// Lets a body take the rank or nothing.
template <typename Body>
std::function<void(int)> with_rank(Body&& body) {
  if constexpr (std::invocable<Body&, int>) {
    return std::forward<Body>(body);
  } else {
    return [body = std::forward<Body>(body)](int) mutable { body(); };
  }
}

}  // namespace detail

/// The launcher whose ranks `launch` takes, such as "torchrun"; empty where
/// there is none, so that it makes threads.
///
/// Errors  InvalidArgument, as launch
COLONNADE_API std::string launcher_name();

/// Runs `body` on `n` ranks, each a thread of this process, and returns when
/// all are done.
///
/// Ranks that fit the cores are pinned to their share of them, and torch's
/// intra-op threads are divided among the ranks; both are as before when it
/// returns. The caller's thread is never pinned. Grad mode of the caller is
/// that of the ranks.
///
/// body    takes the rank in [0, n), or nothing
/// Errors  The first error of a rank, with its type. A rank that throws wakes
///         all others. InvalidArgument where n < 1 or inside a rank.
template <typename Body>
void run_ranks(int n, Body&& body, const LaunchOptions& options = {}) {
  detail::run_thread_ranks(n, detail::with_rank(std::forward<Body>(body)),
                           options);
}

/// Runs `body` on the ranks of the launcher that started this process
/// (torchrun, mpirun, mpiexec, srun), one rank here, in the calling thread;
/// without one, or where it started one process only, on `options.threads`
/// thread ranks, as `run_ranks` does. docs/launching.md has what the ranks of
/// each launcher need.
///
/// Processes of one host divide its cores as thread ranks do. A rank that
/// throws, or is killed, wakes the others, which throw CommError.
///
/// Errors  as run_ranks; of the ranks of a launcher, this process's own error.
///         InvalidArgument where variables of launchers contradict each other,
///         or say nothing of where processes can meet
template <typename Body>
void launch(Body&& body, const LaunchOptions& options = {}) {
  detail::launch_ranks(detail::with_rank(std::forward<Body>(body)), options);
}

}  // namespace colonnade

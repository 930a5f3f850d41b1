// colonnade/launch/rank_pool.h
#pragma once

#include "colonnade/core/api.h"
#include "colonnade/launch/launch.h"

#include <c10/util/FunctionRef.h>

#include <functional>
#include <memory>

namespace colonnade {

/// Thread ranks that stay: rank 0 is the thread that calls `run`, the others
/// are threads of the pool, which sleep between calls.
///
/// Each rank keeps its RankContext, so its groups and generators, from call to
/// call. The pool's threads are pinned as those of `run_ranks` are; the
/// caller's is not. The cores are divided among the ranks as torch's intra-op
/// threads, the caller's for the time of a call.
class COLONNADE_API RankPool {
 public:
  /// Starts the threads.
  ///
  /// setup   runs on every rank before the first call's body, and again after a
  ///         call that failed; as in `initialize_model_parallel(n)`
  /// Errors  InvalidArgument where n < 1, setup is empty, or the backend has no
  ///         thread ranks
  RankPool(int n, std::function<void()> setup,
           const LaunchOptions& options = {});
  /// Ends the threads. No call may be under way.
  ~RankPool();
  RankPool(const RankPool&) = delete;
  RankPool& operator=(const RankPool&) = delete;

  int size() const;

  /// Runs `body` on every rank and returns when all are done. Calls of several
  /// threads are served in the order in which they come. Grad mode, inference
  /// mode and autocast of the CPU are the caller's on every rank.
  ///
  /// All ranks must make the same collectives in one call. Where one waits for
  /// a rank that has returned, a CommError names both on all that wait or come
  /// to a collective, as soon as the two have fallen asleep.
  ///
  /// body    takes the rank in [0, n)
  /// Errors  The first error of a rank (also of setup), with its type; errors
  ///         of Colonnade and of torch say which rank's. A rank that throws
  ///         wakes all others. The next call begins with new worlds and
  ///         contexts. InvalidArgument inside a rank, and so inside a body.
  /// Cost    beside the body, at two ranks: 0.3 us, or 0.7 where their cores
  ///         share no cache; 30 us after a pause of 0.6 ms, in which the ranks
  ///         fall asleep. No allocation.
  void run(c10::function_ref<void(int)> body);

 private:
  class Ranks;
  std::unique_ptr<Ranks> ranks_;
};

}  // namespace colonnade

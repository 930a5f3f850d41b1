// colonnade/launch/thread_ranks.cpp
#include "colonnade/comm/rank_context.h"
#include "colonnade/comm/world.h"
#include "colonnade/core/error.h"
#include "colonnade/launch/detail/core_shares.h"
#include "colonnade/launch/detail/first_error.h"
#include "colonnade/launch/detail/intra_op_threads.h"
#include "colonnade/launch/detail/thread_rank.h"
#include "colonnade/launch/launch.h"

#include <ATen/ThreadLocalState.h>

#include <exception>
#include <memory>
#include <thread>
#include <vector>

namespace colonnade::detail {

void run_thread_ranks(int n, const std::function<void(int)>& body,
                      const LaunchOptions& options) {
  check_arg(!inside_rank(),
            "run_ranks: called inside a rank; a rank cannot have ranks of its "
            "own, so call it before or after the outer run_ranks");
  const std::vector<WorldPtr> worlds =
      make_local_worlds("run_ranks", n, options);

  const CoreShares cores(n, options.pin);
  const at::ThreadLocalState caller_state;
  FirstError first_error;
  std::vector<std::thread> threads;
  const auto join_all = [&] {
    for (std::thread& thread : threads) {
      thread.join();
    }
  };
  try {
    for (const WorldPtr& world : worlds) {
      const auto context = std::make_shared<RankContext>(world);
      threads.emplace_back([&, context] {
        const at::ThreadLocalStateGuard state(caller_state);
        const int rank = world->rank();
        cores.pin(rank);
        const IntraOpThreads intra_op(cores.intra_op_threads());
        const auto run = [&] {
          body(rank);
          world->leave();
        };
        run_rank(context, run, first_error);
      });
    }
  } catch (const std::exception& error) {  // no thread to be had
    worlds[threads.size()]->abort(error.what());
    join_all();
    throw;
  }
  join_all();
  first_error.rethrow_if_set();
}

}  // namespace colonnade::detail

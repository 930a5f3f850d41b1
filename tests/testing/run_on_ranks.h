// tests/testing/run_on_ranks.h
#pragma once

#include "colonnade/launch/launch.h"

#include <functional>
#include <utility>

namespace colonnade {

void run_on_threads_or_processes(int n, const std::function<void(int)>& body);

/// Runs `body` on `n` ranks: threads; or, where this test program is one of `n`
/// processes that run_as_ranks.sh started, those. Each process then runs the
/// same tests in the same order.
///
/// body  takes the rank, or nothing
template <typename Body>
void run_on_ranks(int n, Body&& body) {
  run_on_threads_or_processes(n, detail::with_rank(std::forward<Body>(body)));
}

/// Whether what `rank` finds is for the code around run_on_ranks: of threads
/// rank 0, of processes each.
bool speaks_for_process(int rank);

/// Whether the program is such a process, and no test ran on its like.
bool lacks_process_ranks();

}  // namespace colonnade

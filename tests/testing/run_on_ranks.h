// tests/testing/run_on_ranks.h
#pragma once

#include <functional>

namespace colonnade {

/// Runs `body` on `n` ranks: threads; or, where this test program is one of `n`
/// processes that run_as_ranks.sh started, those. Each process then runs the
/// same tests in the same order.
void run_on_ranks(int n, const std::function<void()>& body);

/// Whether the program is such a process, and no test ran on its like.
bool lacks_process_ranks();

}  // namespace colonnade

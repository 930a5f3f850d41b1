// benchmarks/process_pair.h
#pragma once

#include "colonnade/comm/world.h"

#include <functional>
#include <string>

// What benchmarks that mpirun starts as two processes share.

namespace colonnade::bench {

inline constexpr int kRanks = 2;

/// The larger of the two processes' values, on both.
double slowest_process(double value);

/// A new folder, the same on both; the first one is to remove it.
std::string shared_folder();

/// The world of the two over a backend; they meet in `folder`.
WorldPtr world_of(const char* backend, const std::string& folder);

/// Runs `body` on two thread ranks of the first process, on the cores of the
/// host, while the second one sleeps.
void on_threads_of_first_process(const std::function<void(int rank)>& body);

}  // namespace colonnade::bench

// benchmarks/contest.h
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace colonnade::bench {

/// One way to do the work of a benchmark, on ranks and threads of its own.
struct Contestant {
  std::string name;
  /// Does the work, warm, and returns the seconds of its slowest rank.
  std::function<double()> seconds;
};

/// Runs the contestants in turn, `rounds` times, with a probe of the machine's
/// capacity in front of each round. Prints each one's median, the bounds of the
/// middle half, and the median of the rounds' speeds beside the first one's.
///
/// Unlike race(), for work that takes seconds and whose contestants differ in
/// ranks and threads.
void contest(const std::string& title,
             const std::vector<Contestant>& contestants, int rounds);

}  // namespace colonnade::bench

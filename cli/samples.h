// cli/samples.h
#pragma once

#include <chrono>
#include <vector>

namespace colonnade::cli {

/// The middle of some samples, and what a tenth of them is below or above.
struct Spread {
  double median = 0;
  double p10 = 0;
  double p90 = 0;
};

/// At least one sample.
Spread spread_of(std::vector<double> samples);

template <typename Work>
double seconds_of(const Work& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin)
      .count();
}

/// How many of `cores` cores this machine gives at the moment: the arithmetic
/// that as many threads get done, in units of what one gets done alone. Takes
/// some milliseconds.
double core_capacity(int cores);

}  // namespace colonnade::cli

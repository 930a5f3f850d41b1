// cli/samples.cpp
#include "cli/samples.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <thread>

namespace colonnade::cli {
namespace {

/// Arithmetic without memory, some 2 ms of it.
void compute() {
  std::array<float, 64> sums{};
  for (int i = 0; i < 400000; ++i) {
    for (float& sum : sums) {
      sum = sum * 0.999F + 0.5F;
    }
  }
  volatile float keep = sums[0] + sums[63];
  static_cast<void>(keep);
}

}  // namespace

Spread spread_of(std::vector<double> samples) {
  std::sort(samples.begin(), samples.end());
  const auto at = [&](double part) {
    return samples[static_cast<size_t>(
        std::lround(part * static_cast<double>(samples.size() - 1)))];
  };
  return {at(0.5), at(0.1), at(0.9)};
}

double core_capacity(int cores) {
  const double alone = seconds_of(compute);
  const double together = seconds_of([&] {
    std::vector<std::thread> others;
    for (int i = 1; i < cores; ++i) {
      others.emplace_back(compute);
    }
    compute();
    for (std::thread& other : others) {
      other.join();
    }
  });
  return cores * alone / together;
}

}  // namespace colonnade::cli

// benchmarks/contest.cpp
#include "benchmarks/contest.h"

#include "benchmarks/measure.h"

#include <cstdio>

namespace colonnade::bench {
namespace {

/// How many cores' worth of arithmetic two threads get now.
double probe_capacity() {
  return race(/*ranks=*/2, /*rounds=*/1, /*calls=*/15,
              [](int) { return std::vector<Contender>{}; })
      .capacity.median;
}

}  // namespace

void contest(const std::string& title,
             const std::vector<Contestant>& contestants, int rounds) {
  std::vector<std::vector<double>> seconds(contestants.size());
  std::vector<std::vector<double>> speeds(contestants.size());
  std::printf("%s\n  capacity, cores' worth of two threads:", title.c_str());
  for (int round = 0; round < rounds; ++round) {
    std::printf(" %.2f", probe_capacity());
    std::fflush(stdout);
    for (size_t i = 0; i < contestants.size(); ++i) {
      seconds[i].push_back(contestants[i].seconds());
      speeds[i].push_back(seconds[0].back() / seconds[i].back());
    }
  }
  std::printf("\n  %-36s %9s %21s %7s\n", "", "median", "middle half", "speed");
  for (size_t i = 0; i < contestants.size(); ++i) {
    const Spread spread = spread_of(seconds[i]);
    std::printf("  %-36s %9s %9s - %-9s %7.2f\n", contestants[i].name.c_str(),
                seconds_text(spread.median).c_str(),
                seconds_text(spread.low).c_str(),
                seconds_text(spread.high).c_str(), spread_of(speeds[i]).median);
  }
  std::fflush(stdout);
}

}  // namespace colonnade::bench

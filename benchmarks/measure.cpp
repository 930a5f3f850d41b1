// benchmarks/measure.cpp
#include "benchmarks/measure.h"

#include "colonnade/launch/launch.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <thread>
#include <utility>

namespace colonnade::bench {
namespace {

using Clock = std::chrono::steady_clock;

/// Lets ranks start together. Not the library's barrier, which is measured.
class StartLine {
 public:
  explicit StartLine(int ranks) : ranks_(static_cast<uint64_t>(ranks)) {}

  /// `round` is counted from 1, by each rank.
  void wait(uint64_t round) {
    arrived_.fetch_add(1);
    for (int i = 0; arrived_.load() < round * ranks_; ++i) {
      if (i > 10000) {
        std::this_thread::yield();
      }
    }
  }

 private:
  std::atomic<uint64_t> arrived_{0};
  uint64_t ranks_;
};

/// Arithmetic without memory, some 0.5 ms of it.
void compute() {
  std::array<float, 64> sums{};
  for (int i = 0; i < 100000; ++i) {
    for (float& sum : sums) {
      sum = sum * 0.999F + 0.5F;
    }
  }
  volatile float keep = sums[0] + sums[63];
  static_cast<void>(keep);
}

/// Work of rank 0 alone, then of all: what their times say is the capacity.
std::vector<Contender> with_probes(std::vector<Contender> contenders,
                                   int rank) {
  const auto nothing = [] {};
  contenders.push_back({nothing,
                        [rank] {
                          if (rank == 0) {
                            compute();
                          }
                        },
                        nothing});
  contenders.push_back({nothing, compute, nothing});
  return contenders;
}

struct Interval {
  Clock::time_point start;
  Clock::time_point end;
};

}  // namespace

Spread spread_of(std::vector<double> samples) {
  std::sort(samples.begin(), samples.end());
  const auto at = [&](double part) {
    return samples[static_cast<size_t>(
        part * static_cast<double>(samples.size() - 1))];
  };
  return {at(0.5), at(0.25), at(0.75)};
}

RaceResult race(int ranks, int rounds, int calls,
                const std::function<std::vector<Contender>(int)>& make) {
  std::vector<std::vector<Interval>> times(
      static_cast<size_t>(ranks),
      std::vector<Interval>(static_cast<size_t>(calls)));
  std::vector<std::vector<double>> samples;  // by contender; of rank 0
  StartLine line(ranks);
  run_ranks(ranks, [&](int rank) {
    const std::vector<Contender> contenders = with_probes(make(rank), rank);
    std::vector<Interval>& mine = times[static_cast<size_t>(rank)];
    if (rank == 0) {
      samples.resize(contenders.size());
    }
    uint64_t starts = 0;
    for (int round = -1; round < rounds; ++round) {  // the first to warm up
      for (size_t c = 0; c < contenders.size(); ++c) {
        for (Interval& interval : mine) {
          contenders[c].prepare();
          line.wait(++starts);
          interval.start = Clock::now();
          contenders[c].run();
          interval.end = Clock::now();
          line.wait(++starts);
          contenders[c].inspect();
        }
        line.wait(++starts);
        if (rank == 0 && round >= 0) {
          std::vector<double> runs;
          for (size_t call = 0; call < mine.size(); ++call) {
            Interval all = mine[call];
            for (const std::vector<Interval>& other : times) {
              all.start = std::max(all.start, other[call].start);
              all.end = std::max(all.end, other[call].end);
            }
            runs.push_back(
                std::chrono::duration<double>(all.end - all.start).count());
          }
          samples[c].push_back(spread_of(std::move(runs)).median);
        }
        line.wait(++starts);
      }
    }
  });

  RaceResult result;
  std::vector<double> capacities;
  const std::vector<double>& alone = samples[samples.size() - 2];
  const std::vector<double>& together = samples[samples.size() - 1];
  for (size_t i = 0; i < alone.size(); ++i) {
    capacities.push_back(ranks * alone[i] / together[i]);
  }
  result.capacity = spread_of(std::move(capacities));
  for (size_t c = 0; c + 2 < samples.size(); ++c) {
    result.seconds.push_back(spread_of(samples[c]));
  }
  return result;
}

std::string bytes_text(double bytes) {
  constexpr std::array<const char*, 4> kUnits = {"B", "KiB", "MiB", "GiB"};
  size_t unit = 0;
  while (bytes >= 1024 && unit + 1 < kUnits.size()) {
    bytes /= 1024;
    ++unit;
  }
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.4g %s", bytes, kUnits[unit]);
  return text.data();
}

std::string seconds_text(double seconds) {
  // Nanoseconds are finer than the clock reads.
  constexpr std::array<const char*, 3> kUnits = {"s", "ms", "us"};
  size_t unit = 0;
  while (seconds < 1 && unit + 1 < kUnits.size()) {
    seconds *= 1000;
    ++unit;
  }
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.3g %s", seconds, kUnits[unit]);
  return text.data();
}

std::string spread_text(const Spread& seconds) {
  return seconds_text(seconds.median) + " (" + seconds_text(seconds.low) + "-" +
         seconds_text(seconds.high) + ")";
}

}  // namespace colonnade::bench

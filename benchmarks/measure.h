// benchmarks/measure.h
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace colonnade::bench {

/// The middle of some samples, and the bounds of their middle half.
struct Spread {
  double median = 0;
  double low = 0;   ///< First quartile.
  double high = 0;  ///< Third quartile.
};

Spread spread_of(std::vector<double> samples);

/// One thing to time, as one rank does its part of it.
struct Contender {
  std::function<void()> prepare;  ///< Not timed: writes the buffers.
  std::function<void()> run;      ///< Timed.
  std::function<void()>
      inspect;  ///< Not timed: reads the buffers, checks them.
};

struct RaceResult {
  std::vector<Spread> seconds;  ///< Of one run, by contender.
  /// How many cores' worth of arithmetic the ranks got together, probed in
  /// each round: cores of a virtual machine are at times threads of one core.
  Spread capacity;
};

/// Times contenders in turn, round after round, on thread ranks as run_ranks
/// makes them, so that all meet the same machine.
///
/// A run is timed alone, from the moment the last rank starts it to the moment
/// the last one is done; a sample is the median of `calls` runs in a row.
///
/// make   called once by each rank; gives its parts of the same contenders
RaceResult race(int ranks, int rounds, int calls,
                const std::function<std::vector<Contender>(int rank)>& make);

/// "64 KiB", "8 B".
std::string bytes_text(double bytes);
/// "0.41 us", "12.3 ms".
std::string seconds_text(double seconds);
/// "0.41 us (0.40 us-0.44 us)".
std::string spread_text(const Spread& seconds);

}  // namespace colonnade::bench

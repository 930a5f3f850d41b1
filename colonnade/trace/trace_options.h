// colonnade/trace/trace_options.h
#pragma once

#include "colonnade/launch/launch.h"

#include <cstdint>
#include <optional>
#include <vector>

namespace colonnade::trace {

struct TraceOptions {
  /// For each tensor among the inputs, from left to right through tuples, lists
  /// and dicts, the dims whose sizes calls may vary; all else is fixed. Empty:
  /// those that the model is found to take at another size: it is run at other
  /// sizes, and one at which it throws is fixed. A dim of size 1 in the example
  /// is then fixed too, since torch treats such a dim in its own way.
  std::vector<std::vector<int64_t>> dynamic_dims = {};
  /// Let ops draw random numbers, from the rank's generators.
  bool allow_random = false;
  /// A second tensor-parallel degree at which the model is recorded, so that
  /// the graph is valid at others. Empty: 1, or 2 where the first is 1; 0:
  /// none, the graph is then fixed to its degree.
  std::optional<int64_t> second_degree = {};
  /// Change the graph so that it runs faster; results then differ in rounding.
  bool optimize = true;
  LaunchOptions launch = {};  ///< Of the thread ranks that are made.
};

}  // namespace colonnade::trace

// colonnade/train/schedule.h
#pragma once

#include <cstdint>

namespace colonnade {

/// A learning rate that rises linearly to `peak` over the first `warmup_steps`
/// and falls along half a cosine to `minimum` at the last of `steps`.
///
/// Source  Loshchilov and Hutter 2017 (arXiv 1608.03983), without restarts
struct LearningRateSchedule {
  double peak;
  double minimum;
  int64_t warmup_steps;
  int64_t steps;

  /// The rate of step `step`, counted from 0; `minimum` from the last one on.
  double at(int64_t step) const;
};

}  // namespace colonnade

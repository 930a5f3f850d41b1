// colonnade/train/schedule.cpp
#include "colonnade/train/schedule.h"

#include <cmath>
#include <numbers>

namespace colonnade {

double LearningRateSchedule::at(int64_t step) const {
  if (step < warmup_steps) {
    return peak * static_cast<double>(step + 1) /
           static_cast<double>(warmup_steps);
  }
  const int64_t last = steps - 1;
  if (step >= last) {
    return minimum;
  }
  const double done = static_cast<double>(step - warmup_steps) /
                      static_cast<double>(last - warmup_steps);
  return minimum +
         (peak - minimum) * 0.5 * (1 + std::cos(std::numbers::pi * done));
}

}  // namespace colonnade

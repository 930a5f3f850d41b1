// colonnade/parallel_layers/detail/vocab_rows.h
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace colonnade::parallel_layers::detail {

/// The part of a vocabulary that this rank's logits are for: whole indices
/// [begin, begin + held) in the first `held` columns; padding follows.
struct VocabPart {
  int64_t begin = 0;
  int64_t held = 0;
};

/// What a rank knows of each row, in a tensor [kVocabStatistics, rows]. `shift`
/// is the largest logit, or 0 where that is -inf.
enum VocabStatistic : int64_t {
  kLargest,      ///< The largest logit, -inf where the rank holds none.
  kSumExp,       ///< The sum of exp(logit - shift).
  kTargetLogit,  ///< The target's logit, 0 where another rank holds it.
  kSumShifted,   ///< The sum of logit - shift; 0 unless asked for.
  kVocabStatistics
};

/// What a row's gradient is made of, in a tensor [kGradientNumbers, rows]:
/// scale * exp(logit - shift) - offset, less target_weight at the target.
enum GradientNumber : int64_t {
  kShift,
  kScale,
  kOffset,
  kTargetWeight,
  kGradientNumbers
};

// Both functions run on the CPU, pass over the logits once, and take sums in
// at::opmath_type of the logits' dtype, which is that of the tensors above.

/// logits      [rows, local], contiguous
/// target      [rows], int64; outside of `part` it is another rank's
/// statistics  filled; contiguous
void vocab_statistics(at::Tensor& statistics, const at::Tensor& logits,
                      const at::Tensor& target, VocabPart part,
                      bool with_sum_shifted);

/// The logits' gradient; 0 in the padding, and in all of an ignored row.
///
/// grad     [rows, local], contiguous, of the logits' dtype; filled
/// ignored  [rows], bool
void vocab_gradient(at::Tensor& grad, const at::Tensor& logits,
                    const at::Tensor& target, const at::Tensor& numbers,
                    const at::Tensor& ignored, VocabPart part);

}  // namespace colonnade::parallel_layers::detail

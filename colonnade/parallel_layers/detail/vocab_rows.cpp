// colonnade/parallel_layers/detail/vocab_rows.cpp
#include "colonnade/parallel_layers/detail/vocab_rows.h"

#include "colonnade/parallel_layers/detail/exp_rows.h"
#include "colonnade/parallel_layers/detail/parallel_rows.h"

#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <type_traits>

namespace colonnade::parallel_layers::detail {
namespace {

// Logits are read once from memory and worked on in blocks that stay in the
// first-level cache.
constexpr int64_t kBlock = 2048;
// Logits that are worth a thread.
constexpr int64_t kGrain = 1 << 15;

int64_t grain_rows(const at::Tensor& logits) {
  return std::max<int64_t>(1, kGrain / std::max<int64_t>(1, logits.size(1)));
}

/// Blocks of a row as numbers of the type that sums are taken in.
template <typename T>
class Block {
 public:
  using Sum = at::opmath_type<T>;

  const Sum* read(const T* x, int64_t n) {
    if constexpr (std::is_same_v<T, Sum>) {
      return x;
    } else {
      std::copy_n(x, n, numbers_.begin());
      return numbers_.data();
    }
  }

  /// Where to compute what write() puts at `out`.
  Sum* place(T* out) {
    if constexpr (std::is_same_v<T, Sum>) {
      return out;
    } else {
      return numbers_.data();
    }
  }

  void write(T* out, int64_t n) const {
    if constexpr (!std::is_same_v<T, Sum>) {
      std::copy_n(numbers_.begin(), n, out);
    }
  }

 private:
  std::array<Sum, std::is_same_v<T, Sum> ? 1 : kBlock> numbers_;
};

template <typename Sum>
Sum shift_of(Sum largest_logit) {
  return largest_logit == -std::numeric_limits<Sum>::infinity() ? Sum{0}
                                                                : largest_logit;
}

template <typename Sum>
struct RowStatistics {
  Sum largest = -std::numeric_limits<Sum>::infinity();
  Sum sum_exp = 0;
  Sum sum_shifted = 0;
};

template <typename T, typename Sum = at::opmath_type<T>>
RowStatistics<Sum> row_statistics(const T* x, int64_t held,
                                  bool with_sum_shifted) {
  RowStatistics<Sum> row;
  Block<T> block;
  for (int64_t i = 0; i < held; i += kBlock) {
    const int64_t n = std::min(kBlock, held - i);
    const Sum* numbers = block.read(x + i, n);
    const Sum block_largest = largest(numbers, n);
    const Sum before = shift_of(row.largest);
    if (block_largest > row.largest) {
      row.sum_exp *= std::exp(row.largest - block_largest);
      row.largest = block_largest;
    }
    const Sum shift = shift_of(row.largest);
    row.sum_exp += sum_exp(numbers, n, shift);
    if (with_sum_shifted) {
      row.sum_shifted += static_cast<Sum>(i) * (before - shift);
      row.sum_shifted += sum_shifted(numbers, n, shift);
    }
  }
  return row;
}

}  // namespace

void vocab_statistics(at::Tensor& statistics, const at::Tensor& logits,
                      const at::Tensor& target, VocabPart part,
                      bool with_sum_shifted) {
  const int64_t rows = logits.size(0);
  const int64_t local = logits.size(1);
  const int64_t* targets = target.const_data_ptr<int64_t>();
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, logits.scalar_type(), "vocab_statistics", [&] {
        using Sum = at::opmath_type<scalar_t>;
        const scalar_t* x = logits.const_data_ptr<scalar_t>();
        Sum* out = statistics.mutable_data_ptr<Sum>();
        parallel_rows(rows, grain_rows(logits),
                      [&](int64_t begin, int64_t end) {
                        for (int64_t r = begin; r < end; ++r) {
                          const scalar_t* row = x + r * local;
                          const auto found =
                              row_statistics(row, part.held, with_sum_shifted);
                          const int64_t column = targets[r] - part.begin;
                          const bool here = 0 <= column && column < part.held;
                          out[kLargest * rows + r] = found.largest;
                          out[kSumExp * rows + r] = found.sum_exp;
                          out[kTargetLogit * rows + r] =
                              here ? static_cast<Sum>(row[column]) : Sum{0};
                          out[kSumShifted * rows + r] = found.sum_shifted;
                        }
                      });
      });
}

void vocab_gradient(at::Tensor& grad, const at::Tensor& logits,
                    const at::Tensor& target, const at::Tensor& numbers,
                    const at::Tensor& ignored, VocabPart part) {
  const int64_t rows = logits.size(0);
  const int64_t local = logits.size(1);
  const int64_t* targets = target.const_data_ptr<int64_t>();
  const bool* is_ignored = ignored.const_data_ptr<bool>();
  AT_DISPATCH_FLOATING_TYPES_AND2(
      at::kHalf, at::kBFloat16, logits.scalar_type(), "vocab_gradient", [&] {
        using Sum = at::opmath_type<scalar_t>;
        const scalar_t* x = logits.const_data_ptr<scalar_t>();
        const Sum* number = numbers.const_data_ptr<Sum>();
        scalar_t* out = grad.mutable_data_ptr<scalar_t>();
        parallel_rows(
            rows, grain_rows(logits), [&](int64_t begin, int64_t end) {
              Block<scalar_t> block;
              for (int64_t r = begin; r < end; ++r) {
                const scalar_t* row = x + r * local;
                scalar_t* out_row = out + r * local;
                const int64_t held = is_ignored[r] ? 0 : part.held;
                const int64_t column = targets[r] - part.begin;
                for (int64_t i = 0; i < held; i += kBlock) {
                  const int64_t n = std::min(kBlock, held - i);
                  Sum* place = block.place(out_row + i);
                  scaled_exp(place, block.read(row + i, n), n,
                             number[kShift * rows + r],
                             number[kScale * rows + r],
                             number[kOffset * rows + r]);
                  if (i <= column && column < i + n) {
                    place[column - i] -= number[kTargetWeight * rows + r];
                  }
                  block.write(out_row + i, n);
                }
                std::fill(out_row + held, out_row + local, scalar_t{0});
              }
            });
      });
}

}  // namespace colonnade::parallel_layers::detail

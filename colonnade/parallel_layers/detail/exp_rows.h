// colonnade/parallel_layers/detail/exp_rows.h
#pragma once

#include <cstdint>

namespace colonnade::parallel_layers::detail {

// Loops over a few thousand numbers, written for the widest vectors of the CPU
// at hand (AVX-512, AVX2, or the baseline), chosen once a process. Results are
// within 2 ulp; NaN and infinities go through as in std::exp. `x - shift` must
// not be above 0 by more than rounding, so that exp does not overflow.

/// The largest; -inf where n is 0. NaN is passed over.
float largest(const float* x, int64_t n);
double largest(const double* x, int64_t n);

/// The sum of exp(x - shift).
float sum_exp(const float* x, int64_t n, float shift);
double sum_exp(const double* x, int64_t n, double shift);

/// The sum of x - shift.
float sum_shifted(const float* x, int64_t n, float shift);
double sum_shifted(const double* x, int64_t n, double shift);

/// out = exp(x - shift) * scale - offset. `out` may be `x`.
void scaled_exp(float* out, const float* x, int64_t n, float shift, float scale,
                float offset);
void scaled_exp(double* out, const double* x, int64_t n, double shift,
                double scale, double offset);

}  // namespace colonnade::parallel_layers::detail

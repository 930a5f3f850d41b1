// colonnade/parallel_layers/detail/exp_rows.cpp
#include "colonnade/parallel_layers/detail/exp_rows.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

// Vectors pass between functions that are always inlined only.
#pragma GCC diagnostic ignored "-Wpsabi"

namespace colonnade::parallel_layers::detail {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// gcc drops an attribute that depends on a template parameter.
template <int kBytes>
struct Vectors;
template <>
struct Vectors<16> {
  typedef float Floats __attribute__((vector_size(16)));
  typedef int32_t Ints __attribute__((vector_size(16)));
};
template <>
struct Vectors<32> {
  typedef float Floats __attribute__((vector_size(32)));
  typedef int32_t Ints __attribute__((vector_size(32)));
};
template <>
struct Vectors<64> {
  typedef float Floats __attribute__((vector_size(64)));
  typedef int32_t Ints __attribute__((vector_size(64)));
};

/// The loops on vectors of `kBytes`. Everything is inlined into the functions
/// at the end, which name the instruction set.
template <int kBytes>
struct Loops {
  using Floats = typename Vectors<kBytes>::Floats;
  using Ints = typename Vectors<kBytes>::Ints;
  static constexpr int64_t kLanes = kBytes / sizeof(float);

  [[gnu::always_inline]] static inline Floats load(const float* x) {
    Floats v;
    std::memcpy(&v, x, sizeof v);
    return v;
  }

  /// The first n < kLanes of `x`, then `fill`.
  [[gnu::always_inline]] static inline Floats load_tail(const float* x,
                                                        int64_t n, float fill) {
    float lanes[kLanes];
    for (int64_t i = 0; i < kLanes; ++i) {
      lanes[i] = i < n ? x[i] : fill;
    }
    return load(lanes);
  }

  [[gnu::always_inline]] static inline float sum(const Floats& v) {
    float total = 0;
    for (int64_t i = 0; i < kLanes; ++i) {
      total += v[i];
    }
    return total;
  }

  /// exp(x) for x <= 0, after Cephes: x = n ln 2 + r, a polynomial in r, times
  /// 2^n. Below the normal range it is 0.
  [[gnu::always_inline]] static inline Floats exp(const Floats& x) {
    constexpr float kSmallest = -87.33f;  // e to it is the last normal float
    constexpr float kLog2E = 1.44269504088896341f;
    constexpr float kLn2High = 0.693359375f;
    constexpr float kLn2Low = -2.12194440e-4f;
    constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds
    const Floats in_range = x < kSmallest ? Floats{} + kSmallest : x;
    const Floats rounded = in_range * kLog2E + kRound;
    const Floats n = rounded - kRound;
    Floats r = in_range - n * kLn2High;
    r = r - n * kLn2Low;
    Floats y = Floats{} + 1.9875691500e-4f;
    y = y * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * (r * r) + r + 1.0f;
    // The low bits of `rounded` are n; 127 is the exponent's bias.
    Ints bits;
    std::memcpy(&bits, &rounded, sizeof bits);
    bits = (bits - (std::bit_cast<int32_t>(kRound) - 127)) << 23;
    Floats power;
    std::memcpy(&power, &bits, sizeof power);
    return x < kSmallest ? Floats{} : y * power;
  }

  [[gnu::always_inline]] static inline float largest(const float* x,
                                                     int64_t n) {
    Floats a = Floats{} - kInfinity;
    Floats b = a;
    Floats c = a;
    Floats d = a;
    int64_t i = 0;
    for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
      const Floats v0 = load(x + i);
      const Floats v1 = load(x + i + kLanes);
      const Floats v2 = load(x + i + 2 * kLanes);
      const Floats v3 = load(x + i + 3 * kLanes);
      a = v0 > a ? v0 : a;
      b = v1 > b ? v1 : b;
      c = v2 > c ? v2 : c;
      d = v3 > d ? v3 : d;
    }
    a = b > a ? b : a;
    c = d > c ? d : c;
    a = c > a ? c : a;
    float result = -kInfinity;
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      result = std::max(result, static_cast<float>(a[lane]));
    }
    for (; i < n; ++i) {
      result = std::max(result, x[i]);
    }
    return result;
  }

  [[gnu::always_inline]] static inline float sum_exp(const float* x, int64_t n,
                                                     float shift) {
    Floats total{};
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
      total += exp(load(x + i) - shift);
    }
    if (i < n) {
      total += exp(load_tail(x + i, n - i, -kInfinity) - shift);
    }
    return sum(total);
  }

  [[gnu::always_inline]] static inline float sum_shifted(const float* x,
                                                         int64_t n,
                                                         float shift) {
    Floats total{};
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
      total += load(x + i) - shift;
    }
    if (i < n) {
      total += load_tail(x + i, n - i, shift) - shift;
    }
    return sum(total);
  }

  [[gnu::always_inline]] static inline void scaled_exp(float* out,
                                                       const float* x,
                                                       int64_t n, float shift,
                                                       float scale,
                                                       float offset) {
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
      const Floats y = exp(load(x + i) - shift) * scale - offset;
      std::memcpy(out + i, &y, sizeof y);
    }
    if (i < n) {
      const Floats y =
          exp(load_tail(x + i, n - i, shift) - shift) * scale - offset;
      std::memcpy(out + i, &y, static_cast<size_t>(n - i) * sizeof(float));
    }
  }
};

/// One instruction set's loops.
struct Table {
  float (*largest)(const float*, int64_t);
  float (*sum_exp)(const float*, int64_t, float);
  float (*sum_shifted)(const float*, int64_t, float);
  void (*scaled_exp)(float*, const float*, int64_t, float, float, float);
};

// A function for each loop and instruction set; lambdas carry no target.
#define COLONNADE_EXP_ROWS(name, bytes, ...)                                   \
  __VA_ARGS__ float largest_##name(const float* x, int64_t n) {                \
    return Loops<bytes>::largest(x, n);                                        \
  }                                                                            \
  __VA_ARGS__ float sum_exp_##name(const float* x, int64_t n, float shift) {   \
    return Loops<bytes>::sum_exp(x, n, shift);                                 \
  }                                                                            \
  __VA_ARGS__ float sum_shifted_##name(const float* x, int64_t n,              \
                                       float shift) {                          \
    return Loops<bytes>::sum_shifted(x, n, shift);                             \
  }                                                                            \
  __VA_ARGS__ void scaled_exp_##name(float* out, const float* x, int64_t n,    \
                                     float shift, float scale, float offset) { \
    Loops<bytes>::scaled_exp(out, x, n, shift, scale, offset);                 \
  }                                                                            \
  constexpr Table kTable_##name{largest_##name, sum_exp_##name,                \
                                sum_shifted_##name, scaled_exp_##name};

COLONNADE_EXP_ROWS(baseline, 16)
#if defined(__x86_64__)
COLONNADE_EXP_ROWS(avx2, 32, __attribute__((target("avx2,fma"))))
COLONNADE_EXP_ROWS(avx512, 64, __attribute__((target("avx512f,fma"))))
#endif
#undef COLONNADE_EXP_ROWS

const Table& table() {
  static const Table chosen = [] {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("fma")) {
      return kTable_avx512;
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
      return kTable_avx2;
    }
#endif
    return kTable_baseline;
  }();
  return chosen;
}

}  // namespace

float largest(const float* x, int64_t n) {
  return table().largest(x, n);
}

float sum_exp(const float* x, int64_t n, float shift) {
  return table().sum_exp(x, n, shift);
}

float sum_shifted(const float* x, int64_t n, float shift) {
  return table().sum_shifted(x, n, shift);
}

void scaled_exp(float* out, const float* x, int64_t n, float shift, float scale,
                float offset) {
  table().scaled_exp(out, x, n, shift, scale, offset);
}

double largest(const double* x, int64_t n) {
  double result = -std::numeric_limits<double>::infinity();
  for (int64_t i = 0; i < n; ++i) {
    result = std::max(result, x[i]);
  }
  return result;
}

double sum_exp(const double* x, int64_t n, double shift) {
  double total = 0;
  for (int64_t i = 0; i < n; ++i) {
    total += std::exp(x[i] - shift);
  }
  return total;
}

double sum_shifted(const double* x, int64_t n, double shift) {
  double total = 0;
  for (int64_t i = 0; i < n; ++i) {
    total += x[i] - shift;
  }
  return total;
}

void scaled_exp(double* out, const double* x, int64_t n, double shift,
                double scale, double offset) {
  for (int64_t i = 0; i < n; ++i) {
    out[i] = std::exp(x[i] - shift) * scale - offset;
  }
}

}  // namespace colonnade::parallel_layers::detail

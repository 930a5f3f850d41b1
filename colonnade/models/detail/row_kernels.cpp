// colonnade/models/detail/row_kernels.cpp
#include "colonnade/models/detail/row_kernels.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace colonnade::detail {
namespace {

#define COLONNADE_INLINE [[gnu::always_inline]] inline

/// Within 2 units in the last place for |x| up to 87, beyond which it stays as
/// there. Of a form that compilers vectorize, as the library's is not: bits are
/// compared as integers, since a comparison of floats may trap.
///
/// Source  Cephes, expf: x = n log(2) + r, exp(r) by a polynomial
COLONNADE_INLINE float exponential(float x) {
  const auto bits = std::bit_cast<int32_t>(x);
  const int32_t magnitude =
      std::min(bits & 0x7fffffff, std::bit_cast<int32_t>(87.0F));
  x = std::bit_cast<float>(magnitude | (bits & ~0x7fffffff));
  constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: adding it rounds
  const float shifted = x * 1.44269504088896341F + kRound;
  const float n = shifted - kRound;
  const float r = x - n * 0.693359375F + n * 2.12194440e-4F;
  float p = 1.9875691500e-4F;
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * r * r + r + 1.0F;
  const auto exponent = std::bit_cast<uint32_t>(shifted) + 127U;
  return p * std::bit_cast<float>(exponent << 23);
}

COLONNADE_INLINE double exponential(double x) {
  return std::exp(x);
}

template <typename T>
COLONNADE_INLINE T sigmoid(T x) {
  return T(1) / (T(1) + exponential(-x));
}

/// The sum of term(0) … term(size - 1), in lanes, which compilers keep in
/// registers; they may not reorder a plain sum.
template <typename T, typename Term>
COLONNADE_INLINE T sum(int64_t size, Term&& term) {
  constexpr int64_t kLanes = 16;
  T lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      lanes[lane] += term(i + lane);
    }
  }
  for (; i < size; ++i) {
    lanes[0] += term(i);
  }
  T total = 0;
  for (const T lane : lanes) {
    total += lane;
  }
  return total;
}

struct RmsNormForward {
  template <typename T>
  COLONNADE_INLINE static void run(Rows shape, const T* x, const T* weight,
                                   double eps, T* scale, T* y) {
    const int64_t size = shape.size;
    for (int64_t row = 0; row < shape.rows; ++row, x += size, y += size) {
      const T squares = sum<T>(size, [&](int64_t i) { return x[i] * x[i]; });
      const T mean = squares / static_cast<T>(size);
      scale[row] = T(1) / std::sqrt(mean + static_cast<T>(eps));
      const T by = scale[row];
      for (int64_t i = 0; i < size; ++i) {
        y[i] = x[i] * by * weight[i];
      }
    }
  }
};

struct RmsNormBackward {
  template <typename T>
  COLONNADE_INLINE static void run(Rows shape, const T* grad, const T* x,
                                   const T* weight, const T* scale, T* grad_x,
                                   T* grad_weight) {
    const int64_t size = shape.size;
    for (int64_t row = 0; row < shape.rows; ++row) {
      const T by = scale[row];
      const T along =
          sum<T>(size, [&](int64_t i) { return grad[i] * weight[i] * x[i]; });
      const T less = along * by * by / static_cast<T>(size);
      for (int64_t i = 0; i < size; ++i) {
        grad_x[i] = by * (grad[i] * weight[i] - x[i] * less);
        grad_weight[i] += grad[i] * x[i] * by;
      }
      grad += size;
      x += size;
      grad_x += size;
    }
  }
};

struct RotatePairs {
  template <typename T>
  COLONNADE_INLINE static void run(HeadsShape shape, const T* x, const T* cos,
                                   const T* sin, bool back, T* y) {
    const int64_t half = shape.half;
    const T sign = back ? T(-1) : T(1);
    for (int64_t row = 0; row < shape.batch * shape.seq; ++row) {
      const T* c = cos + row % shape.seq * half;
      const T* s = sin + row % shape.seq * half;
      for (int64_t head = 0; head < shape.heads; ++head) {
        for (int64_t i = 0; i < half; ++i) {
          const T turned = sign * s[i];
          y[i] = x[i] * c[i] - x[i + half] * turned;
          y[i + half] = x[i + half] * c[i] + x[i] * turned;
        }
        x += 2 * half;
        y += 2 * half;
      }
    }
  }
};

struct SwigluForward {
  template <typename T>
  COLONNADE_INLINE static void run(int64_t size, const T* gate, const T* up,
                                   T* y) {
    for (int64_t i = 0; i < size; ++i) {
      y[i] = gate[i] * sigmoid(gate[i]) * up[i];
    }
  }
};

struct SwigluBackward {
  template <typename T>
  COLONNADE_INLINE static void run(int64_t size, const T* grad, const T* gate,
                                   const T* up, T* grad_gate, T* grad_up) {
    for (int64_t i = 0; i < size; ++i) {
      const T s = sigmoid(gate[i]);
      const T silu = gate[i] * s;
      grad_up[i] = grad[i] * silu;
      grad_gate[i] = grad[i] * up[i] * (s + silu * (T(1) - s));
    }
  }
};

template <typename Kernel, typename... Args>
void run_baseline(Args... args) {
  Kernel::run(args...);
}

#if defined(__x86_64__)
template <typename Kernel, typename... Args>
[[gnu::target("avx2,fma")]] void run_avx2(Args... args) {
  Kernel::run(args...);
}
#endif

/// Runs the kernel as compiled for this CPU.
template <typename Kernel, typename... Args>
void run(Args... args) {
#if defined(__x86_64__)
  static const bool avx2 =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx2) {
    return run_avx2<Kernel>(args...);
  }
#endif
  run_baseline<Kernel>(args...);
}

}  // namespace

template <typename T>
void rms_norm_forward(Rows shape, const T* x, const T* weight, double eps,
                      T* scale, T* y) {
  run<RmsNormForward>(shape, x, weight, eps, scale, y);
}

template <typename T>
void rms_norm_backward(Rows shape, const T* grad, const T* x, const T* weight,
                       const T* scale, T* grad_x, T* grad_weight) {
  run<RmsNormBackward>(shape, grad, x, weight, scale, grad_x, grad_weight);
}

template <typename T>
void rotate_pairs(HeadsShape shape, const T* x, const T* cos, const T* sin,
                  bool back, T* y) {
  run<RotatePairs>(shape, x, cos, sin, back, y);
}

template <typename T>
void swiglu_forward(int64_t size, const T* gate, const T* up, T* y) {
  run<SwigluForward>(size, gate, up, y);
}

template <typename T>
void swiglu_backward(int64_t size, const T* grad, const T* gate, const T* up,
                     T* grad_gate, T* grad_up) {
  run<SwigluBackward>(size, grad, gate, up, grad_gate, grad_up);
}

#define COLONNADE_INSTANTIATE(T)                                             \
  template void rms_norm_forward(Rows, const T*, const T*, double, T*, T*);  \
  template void rms_norm_backward(Rows, const T*, const T*, const T*,        \
                                  const T*, T*, T*);                         \
  template void rotate_pairs(HeadsShape, const T*, const T*, const T*, bool, \
                             T*);                                            \
  template void swiglu_forward(int64_t, const T*, const T*, T*);             \
  template void swiglu_backward(int64_t, const T*, const T*, const T*, T*, T*);
COLONNADE_INSTANTIATE(float)
COLONNADE_INSTANTIATE(double)

}  // namespace colonnade::detail

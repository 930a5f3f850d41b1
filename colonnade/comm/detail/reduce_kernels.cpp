// colonnade/comm/detail/reduce_kernels.cpp
#include "colonnade/comm/detail/reduce_kernels.h"

#include "colonnade/core/error.h"

#include <c10/util/Half.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <type_traits>
#include <utility>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

// Each kernel is compiled for the baseline and for AVX2, from one template: a
// function with a target takes in the always-inline templates that it calls.
// 512-bit vectors gain nothing here, since memory is the limit.
#define COLONNADE_INLINE [[gnu::always_inline]] inline
#define COLONNADE_AVX2 [[gnu::target("avx2,fma,f16c")]]

#if defined(__clang__)
#define COLONNADE_VECTOR_LOOP _Pragma("clang loop vectorize(assume_safety)")
#else
#define COLONNADE_VECTOR_LOOP _Pragma("GCC ivdep")
#endif

namespace colonnade::detail {
namespace {

/// Elements combined at a time: the accumulators stay in the first cache.
constexpr int64_t kBlock = 1024;

/// How elements lie in memory, and in what type they are combined. Elements of
/// 16 bits are plain integers to the compiler, which then vectorizes.
template <typename T>
struct AsIs {
  using Stored = T;
  using Wide = T;
  COLONNADE_INLINE static Wide widen(Stored x) { return x; }
  COLONNADE_INLINE static Stored narrow(Wide x) { return x; }
};

struct BFloat16 {
  using Stored = uint16_t;
  using Wide = float;
  COLONNADE_INLINE static Wide widen(Stored x) {
    return std::bit_cast<float>(static_cast<uint32_t>(x) << 16);
  }
  COLONNADE_INLINE static Stored narrow(Wide x) {
    const auto bits = std::bit_cast<uint32_t>(x);
    const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return static_cast<uint16_t>(x == x ? rounded : 0x7fc0U);
  }
};

struct Float16 {
  using Stored = uint16_t;
  using Wide = float;
  COLONNADE_INLINE static Wide widen(Stored x) {
    return c10::detail::fp16_ieee_to_fp32_value(x);
  }
  COLONNADE_INLINE static Stored narrow(Wide x) {
    return c10::detail::fp16_ieee_from_fp32_value(x);
  }
};

struct Sum {
  template <typename T>
  COLONNADE_INLINE static T apply(T a, T b) {
    if constexpr (std::is_integral_v<T>) {
      using U = std::make_unsigned_t<T>;
      return static_cast<T>(
          static_cast<U>(static_cast<U>(a) + static_cast<U>(b)));
    } else {
      return a + b;
    }
  }
};

struct Product {
  template <typename T>
  COLONNADE_INLINE static T apply(T a, T b) {
    if constexpr (std::is_integral_v<T>) {
      return static_cast<T>(static_cast<uint64_t>(a) *
                            static_cast<uint64_t>(b));
    } else {
      return a * b;
    }
  }
};

struct Max {
  template <typename T>
  COLONNADE_INLINE static T apply(T a, T b) {
    return a > b || a != a ? a : b;
  }
};

struct Min {
  template <typename T>
  COLONNADE_INLINE static T apply(T a, T b) {
    return a < b || a != a ? a : b;
  }
};

struct BitAnd {
  template <typename T>
  COLONNADE_INLINE static T apply(T a, T b) {
    return static_cast<T>(a & b);
  }
};

struct BitOr {
  template <typename T>
  COLONNADE_INLINE static T apply(T a, T b) {
    return static_cast<T>(a | b);
  }
};

struct BitXor {
  template <typename T>
  COLONNADE_INLINE static T apply(T a, T b) {
    return static_cast<T>(a ^ b);
  }
};

template <typename T>
COLONNADE_INLINE void load(typename T::Wide* wide, const typename T::Stored* in,
                           int64_t n) {
  COLONNADE_VECTOR_LOOP
  for (int64_t i = 0; i < n; ++i) {
    wide[i] = T::widen(in[i]);
  }
}

template <typename Op, typename T>
COLONNADE_INLINE void accumulate(typename T::Wide* wide,
                                 const typename T::Stored* in, int64_t n) {
  COLONNADE_VECTOR_LOOP
  for (int64_t i = 0; i < n; ++i) {
    wide[i] = Op::apply(wide[i], T::widen(in[i]));
  }
}

template <typename T>
COLONNADE_INLINE void store(typename T::Stored* out,
                            const typename T::Wide* wide, int64_t n) {
  COLONNADE_VECTOR_LOOP
  for (int64_t i = 0; i < n; ++i) {
    out[i] = T::narrow(wide[i]);
  }
}

template <typename Op, typename T>
COLONNADE_INLINE void combine_blocks(std::span<std::byte* const> outs,
                                     std::span<const std::byte* const> ins,
                                     int64_t begin, int64_t end) {
  typename T::Wide wide[kBlock];
  for (int64_t i = begin; i < end; i += kBlock) {
    const int64_t n = std::min(kBlock, end - i);
    load<T>(wide, reinterpret_cast<const typename T::Stored*>(ins[0]) + i, n);
    for (size_t j = 1; j < ins.size(); ++j) {
      accumulate<Op, T>(
          wide, reinterpret_cast<const typename T::Stored*>(ins[j]) + i, n);
    }
    for (std::byte* const out : outs) {
      store<T>(reinterpret_cast<typename T::Stored*>(out) + i, wide, n);
    }
  }
}

/// Two ranks, the common case, without a block between load and store.
template <typename Op, typename T>
COLONNADE_INLINE void combine_two(std::span<std::byte* const> outs,
                                  std::span<const std::byte* const> ins,
                                  int64_t begin, int64_t end) {
  const auto* const a = reinterpret_cast<const typename T::Stored*>(ins[0]);
  const auto* const b = reinterpret_cast<const typename T::Stored*>(ins[1]);
  auto* const x = reinterpret_cast<typename T::Stored*>(outs[0]);
  auto* const y = reinterpret_cast<typename T::Stored*>(outs[outs.size() - 1]);
  if (x == y) {
    COLONNADE_VECTOR_LOOP
    for (int64_t i = begin; i < end; ++i) {
      x[i] = T::narrow(Op::apply(T::widen(a[i]), T::widen(b[i])));
    }
  } else {
    COLONNADE_VECTOR_LOOP
    for (int64_t i = begin; i < end; ++i) {
      const auto sum = T::narrow(Op::apply(T::widen(a[i]), T::widen(b[i])));
      x[i] = sum;
      y[i] = sum;
    }
  }
}

template <typename Op, typename T>
COLONNADE_INLINE void combine(std::span<std::byte* const> outs,
                              std::span<const std::byte* const> ins,
                              int64_t begin, int64_t end) {
  if (ins.size() == 2 && outs.size() <= 2) {
    combine_two<Op, T>(outs, ins, begin, end);
  } else {
    combine_blocks<Op, T>(outs, ins, begin, end);
  }
}

template <typename Op, typename T>
void combine_baseline(std::span<std::byte* const> outs,
                      std::span<const std::byte* const> ins, int64_t begin,
                      int64_t end) {
  combine<Op, T>(outs, ins, begin, end);
}

#if defined(__x86_64__)

template <typename Op, typename T>
COLONNADE_AVX2 void combine_avx2(std::span<std::byte* const> outs,
                                 std::span<const std::byte* const> ins,
                                 int64_t begin, int64_t end) {
  combine<Op, T>(outs, ins, begin, end);
}

COLONNADE_AVX2 void load_half(float* wide, const uint16_t* in, int64_t n) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in + i));
    _mm256_storeu_ps(wide + i, _mm256_cvtph_ps(x));
  }
  for (; i < n; ++i) {
    wide[i] = _cvtsh_ss(in[i]);
  }
}

COLONNADE_AVX2 void store_half(uint16_t* out, const float* wide, int64_t n) {
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    const __m256 x = _mm256_loadu_ps(wide + i);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i),
                     _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
  }
  for (; i < n; ++i) {
    out[i] = _cvtss_sh(wide[i], _MM_FROUND_TO_NEAREST_INT);
  }
}

/// The compiler does not vectorize conversions of float16 by itself.
template <typename Op>
COLONNADE_AVX2 void combine_half(std::span<std::byte* const> outs,
                                 std::span<const std::byte* const> ins,
                                 int64_t begin, int64_t end) {
  float wide[kBlock];
  float next[kBlock];
  for (int64_t i = begin; i < end; i += kBlock) {
    const int64_t n = std::min(kBlock, end - i);
    load_half(wide, reinterpret_cast<const uint16_t*>(ins[0]) + i, n);
    for (size_t j = 1; j < ins.size(); ++j) {
      load_half(next, reinterpret_cast<const uint16_t*>(ins[j]) + i, n);
      accumulate<Op, AsIs<float>>(wide, next, n);
    }
    store_half(reinterpret_cast<uint16_t*>(outs[0]) + i, wide, n);
    for (size_t j = 1; j < outs.size(); ++j) {
      std::memcpy(reinterpret_cast<uint16_t*>(outs[j]) + i,
                  reinterpret_cast<const uint16_t*>(outs[0]) + i,
                  static_cast<size_t>(n) * sizeof(uint16_t));
    }
  }
}

/// clang 14 has no __builtin_cpu_supports("f16c").
bool has_f16c() {
  unsigned int a = 0;
  unsigned int b = 0;
  unsigned int c = 0;
  unsigned int d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}

bool has_avx2() {
  static const bool has = __builtin_cpu_supports("avx2") &&
                          __builtin_cpu_supports("fma") && has_f16c();
  return has;
}

#endif

template <typename Op, typename T>
void run(std::span<std::byte* const> outs,
         std::span<const std::byte* const> ins, int64_t begin, int64_t end) {
#if defined(__x86_64__)
  if (has_avx2()) {
    if constexpr (std::is_same_v<T, Float16>) {
      return combine_half<Op>(outs, ins, begin, end);
    } else {
      return combine_avx2<Op, T>(outs, ins, begin, end);
    }
  }
#endif
  combine_baseline<Op, T>(outs, ins, begin, end);
}

template <typename T, typename... Rest>
void run(ReduceOp op, Rest&&... rest) {
  if constexpr (std::is_integral_v<typename T::Wide>) {
    switch (op) {
      case ReduceOp::kBitAnd:
        return run<BitAnd, T>(std::forward<Rest>(rest)...);
      case ReduceOp::kBitOr:
        return run<BitOr, T>(std::forward<Rest>(rest)...);
      case ReduceOp::kBitXor:
        return run<BitXor, T>(std::forward<Rest>(rest)...);
      default:
        break;
    }
  }
  switch (op) {
    case ReduceOp::kSum:
      return run<Sum, T>(std::forward<Rest>(rest)...);
    case ReduceOp::kMax:
      return run<Max, T>(std::forward<Rest>(rest)...);
    case ReduceOp::kMin:
      return run<Min, T>(std::forward<Rest>(rest)...);
    case ReduceOp::kProduct:
      return run<Product, T>(std::forward<Rest>(rest)...);
    default:
      throw InvalidArgument("reduce: no kernel for this operation");
  }
}

}  // namespace

bool is_reducible(at::ScalarType dtype, ReduceOp op) {
  switch (dtype) {
    case at::kFloat:
    case at::kDouble:
    case at::kHalf:
    case at::kBFloat16:
      return op != ReduceOp::kBitAnd && op != ReduceOp::kBitOr &&
             op != ReduceOp::kBitXor;
    case at::kByte:
    case at::kChar:
    case at::kShort:
    case at::kInt:
    case at::kLong:
      return true;
    case at::kComplexFloat:
    case at::kComplexDouble:
      return op == ReduceOp::kSum;
    default:
      return false;
  }
}

void reduce(at::ScalarType dtype, ReduceOp op, std::span<std::byte* const> outs,
            std::span<const std::byte* const> ins, int64_t begin, int64_t end) {
  switch (dtype) {
    case at::kFloat:
      return run<AsIs<float>>(op, outs, ins, begin, end);
    case at::kDouble:
      return run<AsIs<double>>(op, outs, ins, begin, end);
    case at::kHalf:
      return run<Float16>(op, outs, ins, begin, end);
    case at::kBFloat16:
      return run<BFloat16>(op, outs, ins, begin, end);
    case at::kByte:
      return run<AsIs<uint8_t>>(op, outs, ins, begin, end);
    case at::kChar:
      return run<AsIs<int8_t>>(op, outs, ins, begin, end);
    case at::kShort:
      return run<AsIs<int16_t>>(op, outs, ins, begin, end);
    case at::kInt:
      return run<AsIs<int32_t>>(op, outs, ins, begin, end);
    case at::kLong:
      return run<AsIs<int64_t>>(op, outs, ins, begin, end);
    case at::kComplexFloat:  // sums of the parts
      return run<AsIs<float>>(op, outs, ins, 2 * begin, 2 * end);
    case at::kComplexDouble:
      return run<AsIs<double>>(op, outs, ins, 2 * begin, 2 * end);
    default:
      throw InvalidArgument("reduce: no kernel for this dtype");
  }
}

}  // namespace colonnade::detail

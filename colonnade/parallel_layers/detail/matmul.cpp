// colonnade/parallel_layers/detail/matmul.cpp
#include "colonnade/parallel_layers/detail/matmul.h"

#include "colonnade/core/error.h"
#include "colonnade/core/settings.h"

#include <ATen/core/List.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/linear.h>
#include <c10/core/Scalar.h>

#include <atomic>
#include <cstdint>

namespace colonnade::parallel_layers::detail {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

/// MKL gives AMD's AVX-512 cores half of what they do (98 against 215 GFLOP/s
/// on Zen 5) or nine tenths (97 against 109 on Zen 4).
MatmulEngine engine_of_this_cpu() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_is("amd") && __builtin_cpu_supports("avx512f")) {
    return MatmulEngine::kOneDnn;
  }
#endif
  return MatmulEngine::kTorch;
}

MatmulEngine chosen_engine() {
  static const MatmulEngine engine =
      settings().matmul_engine.empty()
          ? engine_of_this_cpu()
          : parse_matmul_engine(settings().matmul_engine);
  return engine;
}

std::atomic<int> forced_engine{-1};  // a MatmulEngine, or -1

/// torch's op for a fused linear through oneDNN, which it does not declare in
/// its headers.
Tensor onednn_linear(const Tensor& a, const Tensor& b,
                     const OptionalTensor& bias) {
  using Scalars = c10::List<std::optional<at::Scalar>>;
  static const auto op =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("mkldnn::_linear_pointwise", "")
          .typed<Tensor(const Tensor&, const Tensor&, const OptionalTensor&,
                        std::string_view, Scalars,
                        std::optional<std::string_view>)>();
  return op.call(a, b, bias, /*attr=*/"none", Scalars(),
                 /*algorithm=*/std::nullopt);
}

/// Multiply-adds below which oneDNN's 9 us a call cost more than its speed
/// gains (Zen 5, one core: 7 against 13 us at 2^18, 22 against 20 at 2^20).
constexpr int64_t kSmallProduct = int64_t{1} << 19;

/// In bf16 torch's own linear is oneDNN already, in fp16 oneDNN lacks what
/// these CPUs need, and in double it has nothing.
bool suits_onednn(const Tensor& a, const Tensor& b) {
  if (a.scalar_type() != at::kFloat || b.scalar_type() != at::kFloat ||
      !a.is_cpu() || !b.is_cpu() || a.numel() * b.size(0) < kSmallProduct) {
    return false;
  }
  // From 16 rows on oneDNN packs a `b` that lies by rows, which pays only for
  // many rows or a large `b`: 0.5 to 0.9 of MKL's speed else (Zen 4).
  const bool packs = b.is_contiguous() && a.size(0) >= 16;
  return !packs || a.size(0) >= 64 || b.size(0) >= 8192;
}

}  // namespace

MatmulEngine parse_matmul_engine(std::string_view name) {
  check_arg(name == "torch" || name == "onednn",
            "COLONNADE_MATMUL: there is no engine \"", name,
            "\"; set it to torch or onednn");
  return name == "torch" ? MatmulEngine::kTorch : MatmulEngine::kOneDnn;
}

MatmulEngine matmul_engine() {
  const int forced = forced_engine.load(std::memory_order_relaxed);
  return forced < 0 ? chosen_engine() : static_cast<MatmulEngine>(forced);
}

void set_matmul_engine(std::optional<MatmulEngine> engine) {
  forced_engine = engine ? static_cast<int>(*engine) : -1;
}

Tensor matmul(const Tensor& a, const Tensor& b, const OptionalTensor& bias) {
  if (matmul_engine() == MatmulEngine::kTorch || !suits_onednn(a, b)) {
    return at::linear(a, b, bias);
  }
  // oneDNN reads b by rows or by columns, but not with gaps.
  const bool dense = b.is_contiguous() || b.t().is_contiguous();
  return onednn_linear(a, dense ? b : b.contiguous(), bias);
}

}  // namespace colonnade::parallel_layers::detail

// tests/comm/reference.h
#pragma once

#include "colonnade/comm/group.h"

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

namespace colonnade {

/// What rank `rank` brings: values that repeat, differ between ranks, and are
/// exact in every dtype.
inline at::Tensor values(int64_t rank, int64_t n, at::ScalarType dtype) {
  const at::Tensor index = at::arange(n, at::kLong);
  if (dtype == at::kBool) {
    return (index + rank).remainder(3).eq(0);
  }
  return (index * (rank + 3)).remainder(13).sub(rank).to(dtype);
}

/// Fractions, of which sums must be rounded.
inline at::Tensor fractions(int64_t rank, int64_t n, at::ScalarType dtype) {
  return at::arange(n, at::kDouble).add(rank).mul(0.7).sin().to(dtype);
}

inline at::Tensor combined(const at::Tensor& a, const at::Tensor& b,
                           ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
      return a + b;
    case ReduceOp::kMax:
      return at::maximum(a, b);
    case ReduceOp::kMin:
      return at::minimum(a, b);
    case ReduceOp::kProduct:
      return a * b;
    case ReduceOp::kBitAnd:
      return at::bitwise_and(a, b);
    case ReduceOp::kBitOr:
      return at::bitwise_or(a, b);
    case ReduceOp::kBitXor:
      return at::bitwise_xor(a, b);
  }
  return {};
}

/// `tensors` combined in rank order, with one rounding at the end.
inline at::Tensor combined(const std::vector<at::Tensor>& tensors,
                           ReduceOp op) {
  const at::ScalarType dtype = tensors[0].scalar_type();
  const bool is_short = dtype == at::kHalf || dtype == at::kBFloat16;
  at::Tensor result = tensors[0].to(is_short ? at::kFloat : dtype);
  for (size_t i = 1; i < tensors.size(); ++i) {
    result =
        combined(result, is_short ? tensors[i].to(at::kFloat) : tensors[i], op);
  }
  return result.to(dtype);
}

using Make = at::Tensor (*)(int64_t, int64_t, at::ScalarType);

inline std::vector<at::Tensor> all_values(Make make, int64_t ranks, int64_t n,
                                          at::ScalarType dtype) {
  std::vector<at::Tensor> all;
  for (int64_t rank = 0; rank < ranks; ++rank) {
    all.push_back(make(rank, n, dtype));
  }
  return all;
}

}  // namespace colonnade

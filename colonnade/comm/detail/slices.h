// colonnade/comm/detail/slices.h
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace colonnade::detail {

/// Where part `i` of `n` elements split over `parts` begins: whole cache lines,
/// so that two ranks never write to one.
inline int64_t slice_begin(int64_t n, int64_t parts, int64_t i,
                           int64_t item_bytes) {
  const int64_t line = std::max<int64_t>(1, 64 / item_bytes);
  const int64_t lines = (n + line - 1) / line;
  return std::min(n, lines * i / parts * line);
}

inline std::byte* bytes_of(at::Tensor& x) {
  return static_cast<std::byte*>(x.mutable_data_ptr());
}

inline const std::byte* bytes_of(const at::Tensor& x) {
  return static_cast<const std::byte*>(x.const_data_ptr());
}

/// Copies nothing where either is null.
inline void copy_bytes(std::byte* to, const std::byte* from, size_t bytes) {
  if (bytes > 0) {
    std::memcpy(to, from, bytes);
  }
}

}  // namespace colonnade::detail

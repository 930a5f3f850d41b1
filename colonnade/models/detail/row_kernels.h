// colonnade/models/detail/row_kernels.h
#pragma once

#include <cstdint>

namespace colonnade::detail {

// The loops behind rms_norm, RotaryEmbedding and swiglu, for T float or double:
// one pass over memory where a chain of torch's ops takes five or more. All
// arrays are dense, row after row; outputs overlap no input.

/// rows x size of something.
struct Rows {
  int64_t rows;
  int64_t size;
};

/// y = x * scale * weight, scale = 1 / sqrt(mean(x^2) + eps) of each row.
///
/// x, y    [rows, size]
/// weight  [size]
/// scale   [rows], also an output
template <typename T>
void rms_norm_forward(Rows shape, const T* x, const T* weight, double eps,
                      T* scale, T* y);

/// grad_weight is added to; grad_x is set.
template <typename T>
void rms_norm_backward(Rows shape, const T* grad, const T* x, const T* weight,
                       const T* scale, T* grad_x, T* grad_weight);

struct HeadsShape {
  int64_t batch, seq, heads;
  int64_t half;  ///< head_dim / 2
};

/// y's pairs are x's turned by the angles of `cos` and `sin`, or back by them.
///
/// x, y      [batch, seq, heads, 2 half]; a pair is (i, i + half)
/// cos, sin  [seq, half]
template <typename T>
void rotate_pairs(HeadsShape shape, const T* x, const T* cos, const T* sin,
                  bool back, T* y);

/// y = gate * sigmoid(gate) * up.
template <typename T>
void swiglu_forward(int64_t size, const T* gate, const T* up, T* y);

template <typename T>
void swiglu_backward(int64_t size, const T* grad, const T* gate, const T* up,
                     T* grad_gate, T* grad_up);

}  // namespace colonnade::detail

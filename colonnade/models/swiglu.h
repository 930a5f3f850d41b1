// colonnade/models/swiglu.h
#pragma once

#include <ATen/core/Tensor.h>

namespace colonnade {

/// gate * sigmoid(gate) * up, all of one shape.
///
/// Source  Shazeer 2020 (arXiv 2002.05202)
at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up);

}  // namespace colonnade

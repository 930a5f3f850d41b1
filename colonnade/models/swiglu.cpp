// colonnade/models/swiglu.cpp
#include "colonnade/models/swiglu.h"

#include <ATen/ops/silu.h>

namespace colonnade {

at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) {
  return at::silu(gate) * up;
}

}  // namespace colonnade

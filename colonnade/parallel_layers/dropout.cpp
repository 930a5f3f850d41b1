// colonnade/parallel_layers/dropout.cpp
#include "colonnade/parallel_layers/dropout.h"

#include "colonnade/core/error.h"
#include "colonnade/random/generators.h"

#include <ATen/ops/dropout.h>

namespace colonnade::parallel_layers {

DropoutImpl::DropoutImpl(double p_) : p(p_) {
  // NOLINTNEXTLINE(clang-analyzer-optin.cplusplus.VirtualCall)
  reset();
}

void DropoutImpl::reset() {
  check_arg(0.0 <= p && p <= 1.0, "Dropout: p is ", p,
            "; expected a probability in [0, 1]");
}

at::Tensor DropoutImpl::forward(const at::Tensor& x) {
  if (!is_training()) {
    return x;
  }
  const TensorParallelRandomScope scope;
  return at::dropout(x, p, /*train=*/true);
}

void DropoutImpl::pretty_print(std::ostream& stream) const {
  stream << "colonnade::parallel_layers::Dropout(p=" << p << ")";
}

}  // namespace colonnade::parallel_layers

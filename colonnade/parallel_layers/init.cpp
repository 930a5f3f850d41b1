// colonnade/parallel_layers/init.cpp
#include "colonnade/parallel_layers/init.h"

#include "colonnade/parallel_layers/detail/no_init.h"
#include "colonnade/sharding/attributes.h"
#include "colonnade/sharding/split_join.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include <mutex>
#include <optional>

namespace colonnade::parallel_layers {
namespace {

// Thread ranks take turns, so that a process holds one whole tensor. Held
// around draw and split only, never across a collective. Recursive, since a
// user's method may build a layer.
std::recursive_mutex turn;

thread_local bool no_init = false;

}  // namespace

detail::NoInitScope::NoInitScope() : previous_(no_init) {
  no_init = true;
}

detail::NoInitScope::~NoInitScope() {
  no_init = previous_;
}

void init_parameter(at::Tensor& parameter, const InitMethod& method) {
  if (no_init || parameter.is_meta()) {
    return;
  }
  const at::NoGradGuard no_grad;
  const std::optional<TensorParallelAttributes> attributes =
      get_tensor_parallel_attributes(parameter);
  if (!attributes) {
    method(parameter);
    return;
  }
  const std::lock_guard lock(turn);
  at::Tensor whole = at::empty(attributes->spec.whole_shape(parameter.sizes()),
                               parameter.options().requires_grad(false));
  method(whole);
  split_parameter(parameter, whole);
}

}  // namespace colonnade::parallel_layers

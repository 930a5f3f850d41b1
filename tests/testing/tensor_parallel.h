// tests/testing/tensor_parallel.h
#pragma once

#include "colonnade/comm/group.h"
#include "colonnade/parallel_state/parallel_state.h"
#include "colonnade/random/generators.h"
#include "tests/testing/run_on_ranks.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <c10/util/accumulate.h>

#include <cstdint>
#include <utility>

namespace colonnade::testing {

/// Runs `body(group)` on `ranks` ranks, all one tensor-parallel group, seeded
/// with 1.
template <typename Body>
void run_tensor_parallel(int ranks, Body&& body) {
  run_on_ranks(ranks, [&] {
    parallel_state::initialize_model_parallel(ranks);
    manual_seed(1);
    body(parallel_state::get_tensor_model_parallel_group());
  });
}

/// This rank's even part of `whole` along `dim`.
inline at::Tensor part(const at::Tensor& whole, int64_t dim,
                       const GroupPtr& group) {
  const int64_t size = whole.size(dim) / group->size();
  return whole.narrow(dim, group->rank() * size, size);
}

/// `whole` as a leaf of its own that wants a gradient.
inline at::Tensor leaf(const at::Tensor& whole) {
  return whole.detach().clone(at::MemoryFormat::Contiguous).requires_grad_();
}

/// Numbers without pattern, the same in every run and on every rank.
inline at::Tensor numbers(at::IntArrayRef shape, int64_t salt = 0) {
  const at::Tensor flat =
      at::arange(1, c10::multiply_integers(shape) + 1, at::kDouble);
  return flat.mul(0.37).add(static_cast<double>(salt) * 0.81).sin().view(shape);
}

}  // namespace colonnade::testing

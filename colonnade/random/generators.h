// colonnade/random/generators.h
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>

#include "colonnade/core/api.h"

namespace colonnade {

/// Seeds both generators of this rank: `replicated` with `seed`, as
/// torch::manual_seed would, and `tensor_parallel` with one derived from `seed`
/// and the rank's place in its tensor-parallel group. Outside a rank it is
/// torch::manual_seed.
COLONNADE_API void manual_seed(uint64_t seed);

/// Where this rank's generators stand, as torch's opaque byte tensors (CPU).
struct RandomState {
  at::Tensor replicated;       ///< Equal on all ranks of a correct program.
  at::Tensor tensor_parallel;  ///< This rank's own.
};

COLONNADE_API RandomState random_state();
COLONNADE_API void set_random_state(const RandomState& state);

/// The generator that random ops of this rank draw from on `device`: what
/// torch's default generator is in a process of its own.
COLONNADE_API at::Generator current_generator(c10::Device device = c10::kCPU);

/// While it lives, random ops of this rank draw from `tensor_parallel`, which
/// differs on every rank of a tensor-parallel group: for dropout on sharded
/// activations. Activation checkpointing needs nothing more: the scope is
/// entered again where forward runs again.
class COLONNADE_API TensorParallelRandomScope {
 public:
  TensorParallelRandomScope();
  ~TensorParallelRandomScope();
  TensorParallelRandomScope(const TensorParallelRandomScope&) = delete;
  TensorParallelRandomScope& operator=(const TensorParallelRandomScope&) =
      delete;

 private:
  bool previous_;
};

}  // namespace colonnade

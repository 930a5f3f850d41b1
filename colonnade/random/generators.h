// colonnade/random/generators.h
#pragma once

#include "colonnade/core/api.h"

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>

namespace colonnade {

/// Seeds both generators of this rank on every device: `replicated` with
/// `seed`, as torch::manual_seed would, and `tensor_parallel` with one derived
/// from `seed` and the rank's place in its tensor-parallel group, whether that
/// is made before or after this call. Outside a rank it is torch::manual_seed.
COLONNADE_API void manual_seed(uint64_t seed);

/// The seed of the `tensor_parallel` generator of the rank at place `tp_rank`
/// of its tensor-parallel group: splitmix64(seed) + tp_rank.
///
/// The sum keeps ranks apart in the low 32 bits, which are all that torch's
/// CPU generator takes.
///
/// Source  Steele et al. 2014, "Fast splittable pseudorandom number
///         generators", the finalizer of SplitMix64
COLONNADE_API uint64_t tensor_parallel_seed(uint64_t seed, int64_t tp_rank);

/// Where this rank's CPU generators stand, as torch's opaque byte tensors.
/// Outside a rank both are torch's default generator.
struct RandomState {
  at::Tensor replicated;       ///< Equal on all ranks of a correct program.
  at::Tensor tensor_parallel;  ///< This rank's own.
};

COLONNADE_API RandomState random_state();

/// Puts back what `random_state` gave; outside a rank only `replicated`, into
/// torch's default generator. InvalidArgument, before anything is changed,
/// where a tensor is not such a state.
COLONNADE_API void set_random_state(const RandomState& state);

/// The generator that random ops of this rank draw from on `device`: what
/// torch's default generator is in a process of its own. Outside a rank it is
/// torch's default generator. Made at first use.
COLONNADE_API at::Generator current_generator(c10::Device device = c10::kCPU);

/// While it lives, random ops of this rank draw from `tensor_parallel`, which
/// differs on every rank of a tensor-parallel group: for dropout on sharded
/// activations; or from `replicated` again, where `inside` is false. Outside a
/// rank it does nothing.
///
/// Who runs a part of forward again puts back what was current for it, too:
/// `set_random_state` and a scope of what `in_tensor_parallel_random` was.
class COLONNADE_API TensorParallelRandomScope {
 public:
  explicit TensorParallelRandomScope(bool inside = true);
  ~TensorParallelRandomScope();
  TensorParallelRandomScope(const TensorParallelRandomScope&) = delete;
  TensorParallelRandomScope& operator=(const TensorParallelRandomScope&) =
      delete;

 private:
  bool previous_;
};

/// Whether random ops of this rank draw from `tensor_parallel` now.
COLONNADE_API bool in_tensor_parallel_random();

}  // namespace colonnade

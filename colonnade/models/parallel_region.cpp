// colonnade/models/parallel_region.cpp
#include "colonnade/models/parallel_region.h"

#include "colonnade/parallel_layers/mappings.h"

namespace colonnade {

at::Tensor enter_parallel_region(const at::Tensor& x, bool sequence_parallel) {
  if (sequence_parallel) {
    return parallel_layers::gather_from_sequence_parallel_region(
        x, /*sequence_dimension=*/1, /*to_model_parallel=*/true);
  }
  return parallel_layers::copy_to_tensor_model_parallel_region(x);
}

}  // namespace colonnade

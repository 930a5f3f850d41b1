// colonnade/parallel_layers/clip_grad_norm.h
#pragma once

#include "colonnade/core/api.h"

#include <ATen/core/Tensor.h>

#include <vector>

namespace colonnade::parallel_layers {

/// Scales gradients in place so that their total norm is at most `max_norm`;
/// returns the total norm before, the same on every rank and equal to torch's
/// on the unsharded model. Sharded gradients are summed over their group,
/// replicated and tied ones counted once. Collective.
///
/// norm_type            any p > 0; infinity is the largest magnitude
/// error_if_nonfinite   an InvalidArgument, before anything is scaled
/// Output               a scalar of the parameters' dtype; 0 where there is no
///                      gradient. Computed and applied in fp64.
/// Wire                 an all-gather of three numbers a group; one more, and
///                      the ranges, where several ranks hold one part
/// Errors               InvalidArgument for norm_type <= 0, max_norm < 0 and
///                      sparse gradients
COLONNADE_API at::Tensor clip_grad_norm(
    const std::vector<at::Tensor>& parameters, double max_norm,
    double norm_type = 2.0, bool error_if_nonfinite = false);

COLONNADE_API at::Tensor clip_grad_norm(const at::Tensor& parameter,
                                        double max_norm, double norm_type = 2.0,
                                        bool error_if_nonfinite = false);

}  // namespace colonnade::parallel_layers

// colonnade/models/detail/row_op.h
#pragma once

#include <ATen/core/Tensor.h>

#include <initializer_list>

namespace colonnade::detail {

/// Whether the row kernels, under an autograd node of ours, serve these inputs:
/// gradients are taken, on the CPU, in fp32 or fp64. Otherwise, and always in a
/// recording, torch's own ops do, which run anywhere, have second derivatives,
/// and do not go around the dispatcher.
bool use_row_kernels(std::initializer_list<at::Tensor> inputs);

}  // namespace colonnade::detail

// colonnade/parallel_layers/detail/dim_collectives.h
#pragma once

#include "colonnade/comm/group.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string_view>

namespace colonnade::parallel_layers::detail {

// A group's collectives along any dim, below autograd. Tensors need not be
// contiguous; what they return is, and shares no memory with `x`. On meta they
// only work out the shape.

/// `dim` in [0, x.dim()); InvalidArgument, with `subject` in front, otherwise.
int64_t wrap_dim(const at::Tensor& x, int64_t dim, std::string_view subject);

/// The size of one of `ranks` equal parts of `dim`; InvalidArgument, with
/// `subject` in front, where it does not divide.
int64_t part_size(const at::Tensor& x, int64_t dim, int64_t ranks,
                  std::string_view subject);

/// The sum of every rank's `x`.
at::Tensor all_reduce(const at::Tensor& x, Group& group);

/// Every rank's `x`, one after the other along `dim`.
///
/// Cost  beside the collective one permuted copy, where sizes in front of
///       `dim` are not 1
at::Tensor all_gather(const at::Tensor& x, int64_t dim, Group& group);

/// This rank's part along `dim`, of part_size(), of the sum of every rank's
/// `x`. Cost as all_gather.
at::Tensor reduce_scatter(const at::Tensor& x, int64_t dim, Group& group,
                          std::string_view subject);

/// This rank's part of `x` along `dim`. No communication.
at::Tensor own_part(const at::Tensor& x, int64_t dim, const Group& group,
                    std::string_view subject);

}  // namespace colonnade::parallel_layers::detail

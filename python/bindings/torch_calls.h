// The collectives of torch.distributed, made of those of a Group. Each is
// called by all members of the group; tensors may have any strides.
#pragma once

#include "colonnade/comm/group.h"

#include <torch/csrc/distributed/c10d/Types.hpp>

#include <vector>

namespace colonnade::python {

using Tensors = std::vector<at::Tensor>;

/// What a ReduceOp of torch's is for tensors of one dtype.
struct Reduction {
  ReduceOp op = ReduceOp::kSum;
  bool divides = false;  ///< AVG: the sum is divided by the group's size.
  bool flags = false;    ///< Tensors of bool are combined as bytes of 0 and 1.
};

/// Errors  InvalidArgument where tensors of `dtype` cannot be combined so
Reduction reduction_of(const c10d::ReduceOp& op, at::ScalarType dtype,
                       const char* method);

void all_reduce(Group& group, const at::Tensor& x, const Reduction& reduction);
/// `x` is sparse, with any number of entries on each rank.
void sum_sparse(Group& group, const at::Tensor& x);
/// Leaves what the others have as it is.
void reduce(Group& group, const at::Tensor& x, const Reduction& reduction,
            int root);
void broadcast(Group& group, const at::Tensor& x, int root);
void all_gather(Group& group, const at::Tensor& out, const at::Tensor& x);
/// outs  by rank; sizes may differ, and are then those of the ranks' x
void all_gather(Group& group, const Tensors& outs, const at::Tensor& x);
void reduce_scatter(Group& group, const at::Tensor& out, const at::Tensor& x,
                    const Reduction& reduction);
/// ins  by rank; sizes may differ
void reduce_scatter(Group& group, const at::Tensor& out, const Tensors& ins,
                    const Reduction& reduction);
/// outs  of the root, by rank
void gather(Group& group, const Tensors& outs, const at::Tensor& x, int root);
/// ins  of the root, by rank
void scatter(Group& group, const at::Tensor& out, const Tensors& ins, int root);
/// outs  by sender; sizes may differ
/// ins   by receiver
///
/// Errors  InvalidArgument, on all ranks, where a rank expects another size
///         than is sent to it
void all_to_all(Group& group, const Tensors& outs, const Tensors& ins);

}  // namespace colonnade::python

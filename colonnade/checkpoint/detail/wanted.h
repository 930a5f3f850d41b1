// colonnade/checkpoint/detail/wanted.h
#pragma once

#include "colonnade/checkpoint/detail/consensus.h"
#include "colonnade/checkpoint/detail/reader.h"
#include "colonnade/sharding/attributes.h"

#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

namespace colonnade::detail {

/// A stored tensor that this rank wants, in a layout of its own.
struct Wanted {
  const StoredTensor* source = nullptr;
  std::optional<TensorParallelAttributes> attributes;  ///< None: all of it.
  at::Tensor value;  ///< Filled by read_wanted, on the CPU.
  /// Let the value be the mapped file's own bytes, where they lie as it does.
  bool map = false;
};

/// Makes sure that a tensor which belongs to its rank is loaded at the degree
/// at which it was saved; CheckpointError names it.
void check_degree(const StoredTensor& source, int degree);

/// Reads this rank's part of everything that is wanted, and verifies it: the
/// ranks' parts of a split tensor, added up, have the digest of its whole.
/// Collective; all ranks want the same tensors. An error on one is thrown on
/// all, and `value`s are then of no use.
///
/// Cost    memory for the values that are not mapped, and 4 MiB a thread; as
///         many threads as torch's ops take on this rank
/// Errors  CheckpointError names the file and the tensor; InvalidArgument a
///         tensor of which the ranks together do not want all
void read_wanted(const CheckpointRanks& ranks, std::vector<Wanted>& wanted);

}  // namespace colonnade::detail

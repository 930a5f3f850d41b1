// colonnade/checkpoint/detail/loader.h
#pragma once

#include "colonnade/checkpoint/detail/consensus.h"
#include "colonnade/checkpoint/detail/model_tensors.h"
#include "colonnade/checkpoint/detail/reader.h"
#include "colonnade/sharding/attributes.h"

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <vector>

namespace colonnade::detail {

/// A stored tensor that this rank wants, in a layout of its own.
struct Wanted {
  const StoredTensor* source = nullptr;
  std::optional<TensorParallelAttributes> attributes;  ///< None: all of it.
  at::Tensor value;  ///< Filled by read_wanted, on the CPU.
};

/// Makes sure that a tensor which belongs to its rank is loaded at the degree
/// at which it was saved; CheckpointError names it.
void check_degree(const StoredTensor& source, int degree);

/// Reads this rank's part of everything that is wanted, and verifies it: the
/// ranks' parts of a split tensor, added up, have the digest of its whole.
/// Collective; all ranks want the same tensors. An error on one is thrown on
/// all, and `value`s are then of no use.
///
/// Cost    memory for the values, and 4 MiB
/// Errors  CheckpointError names the file and the tensor; InvalidArgument a
///         tensor of which the ranks together do not want all
void read_wanted(const CheckpointRanks& ranks, std::vector<Wanted>& wanted);

/// A tensor of the model and the wanted tensor that fills it.
struct Filling {
  at::Tensor tensor;
  size_t wanted;
};

/// Matches the model's tensors with stored ones under `prefix` + name, and
/// appends what they want to `wanted`. One name of tied tensors is enough.
///
/// Errors  InvalidArgument, beginning with `subject`, lists all missing,
///         unexpected and mismatched keys
std::vector<Filling> match_model(const CheckpointRanks& ranks,
                                 const std::vector<ModelTensor>& model,
                                 const TensorStore& store,
                                 const std::string& prefix,
                                 const std::string& subject,
                                 std::vector<Wanted>& wanted);

/// InvalidArgument where two stored tensors with different values are to fill
/// one of the model.
void check_ties(const std::vector<Filling>& fillings,
                const std::vector<Wanted>& wanted);

/// Copies what was read into the model.
void fill(const std::vector<Filling>& fillings,
          const std::vector<Wanted>& wanted);

}  // namespace colonnade::detail

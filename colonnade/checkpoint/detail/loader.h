// colonnade/checkpoint/detail/loader.h
#pragma once

#include "colonnade/checkpoint/detail/consensus.h"
#include "colonnade/checkpoint/detail/model_tensors.h"
#include "colonnade/checkpoint/detail/reader.h"
#include "colonnade/checkpoint/detail/wanted.h"

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

namespace colonnade::detail {

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

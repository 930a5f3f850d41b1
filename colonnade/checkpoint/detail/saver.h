// colonnade/checkpoint/detail/saver.h
#pragma once

#include "colonnade/checkpoint/detail/consensus.h"
#include "colonnade/checkpoint/detail/plan.h"
#include "colonnade/checkpoint/state_dict.h"

#include <vector>

namespace colonnade::detail {

/// What is to be saved: this rank's tensors, and, on ranks that write, how all
/// ranks' tensors make up the checkpoint.
struct PreparedSave {
  std::vector<LocalTensor> tensors;
  std::vector<PlannedTensor> plan;
};

/// Checks that `state` can be saved and that all ranks agree on it, before
/// anything is written. Collective.
///
/// Cost    a pass over this rank's tensors for their digests
/// Errors  InvalidArgument names the keys, on every rank
PreparedSave prepare_save(const CheckpointRanks& ranks, const StateDict& state);

}  // namespace colonnade::detail

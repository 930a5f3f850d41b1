// colonnade/train/model_checkpoint.h
#pragma once

#include "colonnade/checkpoint/state_dict.h"
#include "colonnade/models/llama.h"
#include "colonnade/models/llama_options.h"

#include <cstdint>
#include <filesystem>

namespace torch::optim {
class Optimizer;
}

namespace colonnade {

/// What a checkpoint of a run says beside its tensors.
struct CheckpointInfo {
  int64_t step = 0;  ///< Steps done.
  int64_t seq_len = 0;
  double eval_fraction = 0;
  LlamaOptions model;
  StateDict train;  ///< TrainOptions::to_state().
};

/// Writes the state of a run into `folder`. Collective.
void save_run(const std::filesystem::path& folder, const Llama& model,
              const torch::optim::Optimizer& optimizer,
              const CheckpointInfo& info);

/// Fills model and optimizer from `folder`, at any tensor-parallel degree.
/// Collective; returns the steps done.
int64_t load_run(const std::filesystem::path& folder, Llama& model,
                 torch::optim::Optimizer& optimizer);

/// Fills the model alone. Collective.
void load_model(const std::filesystem::path& folder, Llama& model);

/// Reads no tensor and needs no ranks.
///
/// Errors  CheckpointError where it is no checkpoint of a run
CheckpointInfo read_checkpoint_info(const std::filesystem::path& folder);

/// The checkpoint that `path` names: a checkpoint, or the newest of a run's
/// folder.
///
/// Errors  CheckpointError where it is neither
std::filesystem::path find_checkpoint(const std::filesystem::path& path);

}  // namespace colonnade

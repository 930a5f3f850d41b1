// colonnade/train/model_checkpoint.cpp
#include "colonnade/train/model_checkpoint.h"

#include "colonnade/core/error.h"
#include "colonnade/parallel_layers/save_load.h"
#include "colonnade/train/run_folder.h"

#include <torch/optim/optimizer.h>

#include <string>

namespace colonnade {
namespace {

// The entries of a checkpoint.
const StateKey kModel = "model";
const StateKey kOptimizer = "optimizer";
const StateKey kRun = "run";

}  // namespace

void save_run(const std::filesystem::path& folder, const Llama& model,
              const torch::optim::Optimizer& optimizer,
              const CheckpointInfo& info) {
  StateDict run;
  run[StateKey("step")] = info.step;
  run[StateKey("seq_len")] = info.seq_len;
  run[StateKey("eval_fraction")] = info.eval_fraction;
  run[StateKey("model")] = info.model.to_state();
  run[StateKey("train")] = info.train;

  StateDict state;
  state[kModel] = state_dict(*model);
  state[kOptimizer] = state_dict(optimizer, *model);
  state[kRun] = run;
  parallel_layers::save(state, folder);
}

int64_t load_run(const std::filesystem::path& folder, Llama& model,
                 torch::optim::Optimizer& optimizer) {
  const StateDict rest = parallel_layers::load(folder, *model);
  load_state_dict(optimizer, *model, rest.at(kOptimizer));
  return rest.at(kRun).to_dict().at(StateKey("step")).to_int();
}

void load_model(const std::filesystem::path& folder, Llama& model) {
  parallel_layers::load_model(folder, *model);
}

CheckpointInfo read_checkpoint_info(const std::filesystem::path& folder) {
  const StateDict values = parallel_layers::load_values(folder);
  check<CheckpointError>(values.contains(kRun), folder.string(),
                         ": not the checkpoint of a training run");
  const StateDict& run = values.at(kRun).to_dict();
  return {
      .step = run.at(StateKey("step")).to_int(),
      .seq_len = run.at(StateKey("seq_len")).to_int(),
      .eval_fraction = run.at(StateKey("eval_fraction")).to_double(),
      .model = LlamaOptions::from_state(run.at(StateKey("model")).to_dict()),
      .train = run.at(StateKey("train")).to_dict()};
}

std::filesystem::path find_checkpoint(const std::filesystem::path& path) {
  if (std::filesystem::exists(path / "manifest.json")) {
    return path;
  }
  const auto newest = RunFolder(path).newest();
  check<CheckpointError>(newest.has_value(), path.string(),
                         ": no checkpoint here; name the folder of a run, or "
                         "one of the folders step_… in it");
  return *newest;
}

}  // namespace colonnade

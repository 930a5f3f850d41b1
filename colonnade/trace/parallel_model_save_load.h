// colonnade/trace/parallel_model_save_load.h
#pragma once

#include "colonnade/core/api.h"
#include "colonnade/launch/launch.h"
#include "colonnade/trace/tensor_parallel_model.h"

#include <c10/core/Device.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace colonnade::trace {

/// Writes a traced model: a checkpoint (parallel_layers/save_load.h) whose
/// manifest also names the graph, `graph.json`. The state of sessions is not in
/// it. By the ranks of a launcher it is collective.
///
/// Cost    one pass over the weights to digest and one to write
/// Errors  as parallel_layers::save
COLONNADE_API void parallel_model_save(const TensorParallelModel& model,
                                       const std::filesystem::path& save_dir);

struct LoadOptions {
  /// Further namespaces of ops that the graph may call, of libraries that this
  /// process has loaded, or single ops ("aten::lu_solve"). A file is data from
  /// elsewhere: name those you trust.
  std::vector<std::string> namespaces = {};
  /// Change the graph so that it runs faster; results then differ in rounding.
  bool optimize = true;
  at::Device device = at::kCPU;  ///< Where the model is to run.
  LaunchOptions launch = {};     ///< Of the thread ranks that are made.
};

/// Loads a traced model without the code of the model.
///
/// Weights are mapped from the files where a rank's part of them is one
/// stretch, and read otherwise; all are verified by their digests. Outside a
/// rank it makes thread ranks; by the ranks of a launcher it is collective, and
/// the degree must be theirs.
///
/// tp_degree  empty: the degree at which it was traced
/// Errors     CheckpointError names the file that is missing, extra, cut or
///            altered, the op that is not allowed or not what it was when the
///            model was traced, and the reason where the graph is valid at one
///            degree only
COLONNADE_API TensorParallelModel
parallel_model_load(const std::filesystem::path& load_dir,
                    std::optional<int64_t> tp_degree = std::nullopt,
                    const LoadOptions& options = {});

}  // namespace colonnade::trace

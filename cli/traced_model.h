// cli/traced_model.h
#pragma once

#include "cli/shared_options.h"
#include "colonnade/models/generate.h"
#include "colonnade/trace/tensor_parallel_model.h"

#include <cstdint>
#include <filesystem>

namespace colonnade::cli {

/// Whether `folder` is one, by the names of its files.
bool has_traced_model(const std::filesystem::path& folder);

/// Errors  CheckpointError where the folder is no traced model, with the way to
///         make one; InvalidArgument where it does not run on so many ranks; as
///         parallel_model_load
trace::TensorParallelModel load_traced_model(const TracedModelOptions& options);

/// A traced model of bytes with a cache, as `colonnade trace` makes it.
class TracedDecoder final : public Decoder {
 public:
  /// Errors  InvalidArgument says where the model is another
  explicit TracedDecoder(trace::TensorParallelModel model);

  int64_t max_length() const override { return max_length_; }
  at::Tensor next_logits(at::IntArrayRef ids) override;
  void reset() override { model_.reset_state(); }

 private:
  trace::TensorParallelModel model_;
  int64_t max_length_;
};

/// How many positions the cache of a model of `colonnade trace` has: dim 2 of
/// its state cache.keys_0; -1 where it has no such state.
int64_t cache_length(const trace::Graph& graph);

}  // namespace colonnade::cli

// colonnade/checkpoint/detail/sharded_load.h
#pragma once

#include "colonnade/checkpoint/detail/consensus.h"
#include "colonnade/checkpoint/detail/loader.h"
#include "colonnade/checkpoint/detail/manifest.h"
#include "colonnade/checkpoint/detail/model_tensors.h"
#include "colonnade/checkpoint/detail/reader.h"
#include "colonnade/checkpoint/state_dict.h"

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace torch::nn {
class Module;
}

namespace colonnade::detail {

struct LoadOptions {
  /// Split what was split as ShardSpec::padded so at the new degree too; false:
  /// only even splits, and an error for others.
  bool padded = false;
  /// Let tensors of the state dict be the files' bytes, mapped, where this rank
  /// wants one stretch of one file. They are this rank's own: writing into them
  /// changes neither the file nor another rank's.
  bool map_files = false;
};

/// A checkpoint on its way into a model and a state dict. The steps are called
/// in the order in which they stand here.
class ShardedLoad {
 public:
  /// Opens the files; no communication.
  ShardedLoad(const CheckpointRanks& ranks, std::filesystem::path folder,
              const std::string& manifest_text,
              const LoadOptions& options = {});

  /// The entry `key` is for `model`, and not in the state dict. No
  /// communication.
  void want_model(const torch::nn::Module& model, const std::string& key);

  /// All else is for the state dict. A split tensor, and an optimizer's state,
  /// takes the layout of the parameter that its path names; without one, the
  /// layout that it was saved in, or the same kind of even (or padded) split at
  /// another degree. No communication.
  void want_rest();

  /// Reads and verifies everything. Collective.
  void read();

  /// Fills the model and returns the state dict. No communication.
  StateDict finish();

  const Manifest& manifest() const { return manifest_; }

 private:
  /// How a tensor for the state dict lies on this rank.
  Wanted lay_out(const std::vector<StateKey>& path, const std::string& name,
                 const StoredTensor& source) const;
  const ModelTensor* find_parameter(const std::vector<StateKey>& path,
                                    const StoredTensor& source) const;
  std::optional<ShardSpec> find_spec(const StoredTensor& source) const;
  size_t want_once(Wanted wanted);

  CheckpointRanks ranks_;
  std::filesystem::path folder_;
  std::string subject_;
  LoadOptions options_;
  Manifest manifest_;
  TensorStore store_;
  StateDict state_;  // without the tensors' values, and without the model
  std::optional<std::string> model_key_;
  std::vector<ModelTensor> model_;
  std::vector<Wanted> wanted_;
  std::vector<Filling> fillings_;
  std::map<std::string, size_t> rest_;  // name to place in wanted_
  std::map<std::pair<const StoredTensor*, std::string>, size_t> once_;
};

}  // namespace colonnade::detail

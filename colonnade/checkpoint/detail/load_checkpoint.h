// colonnade/checkpoint/detail/load_checkpoint.h
#pragma once

#include "colonnade/checkpoint/detail/manifest.h"
#include "colonnade/checkpoint/detail/sharded_load.h"
#include "colonnade/checkpoint/state_dict.h"
#include "colonnade/core/api.h"

#include <filesystem>
#include <string>

namespace torch::nn {
class Module;
}

namespace colonnade::detail {

/// What to load of a checkpoint, and how.
struct LoadRequest {
  const torch::nn::Module* model = nullptr;  ///< To fill; null: none.
  std::string model_key = "model";
  bool rest = true;  ///< Read what is not the model's.
  LoadOptions options = {};
  /// Of the save to load; empty: of the one that is in the folder.
  std::string manifest_text = {};
};

/// The model filled, and the rest as this rank's part of the state dict.
/// Collective: one rank reads the manifest, so that all load the same save.
///
/// Errors  as parallel_layers::load
COLONNADE_API StateDict load_checkpoint(const std::filesystem::path& folder,
                                        const LoadRequest& request = {});

/// The folder's manifest. Not collective, and needs no ranks.
///
/// Errors  CheckpointError where it is missing, cut or altered
COLONNADE_API Manifest read_manifest(const std::filesystem::path& folder);

/// The state dict that the manifest describes, with every tensor undefined. Not
/// collective, and needs no ranks.
COLONNADE_API StateDict plain_values(const std::filesystem::path& folder,
                                     const Manifest& manifest);

}  // namespace colonnade::detail

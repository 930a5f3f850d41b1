// colonnade/checkpoint/detail/load_checkpoint.cpp
#include "colonnade/checkpoint/detail/load_checkpoint.h"

#include "colonnade/checkpoint/detail/consensus.h"
#include "colonnade/checkpoint/detail/reader.h"
#include "colonnade/checkpoint/detail/tree.h"

#include <nlohmann/json.hpp>

#include <optional>

namespace colonnade::detail {

namespace fs = std::filesystem;

StateDict load_checkpoint(const fs::path& folder, const LoadRequest& request) {
  const CheckpointRanks ranks = CheckpointRanks::current("load");
  std::string text = request.manifest_text;
  together(ranks.world, [&] {
    if (ranks.commits && text.empty()) {
      text = read_manifest_text(folder);
    }
  });
  text = from_first(ranks, text);
  std::optional<ShardedLoad> load;
  together(ranks.world, [&] {
    load.emplace(ranks, folder, text, request.options);
    if (request.model != nullptr) {
      load->want_model(*request.model, request.model_key);
    }
    if (request.rest) {
      load->want_rest();
    }
  });
  load->read();
  return load->finish();
}

Manifest read_manifest(const fs::path& folder) {
  return manifest_from_text(read_manifest_text(folder),
                            (folder / kManifestFile).string());
}

StateDict plain_values(const fs::path& folder, const Manifest& manifest) {
  return decode_tree(manifest.state, (folder / kManifestFile).string(),
                     [](const std::string&) { return StateTensor(); });
}

}  // namespace colonnade::detail

// colonnade/parallel_layers/save_load.cpp
#include "colonnade/parallel_layers/save_load.h"

#include "colonnade/checkpoint/detail/consensus.h"
#include "colonnade/checkpoint/detail/loader.h"
#include "colonnade/checkpoint/detail/reader.h"
#include "colonnade/checkpoint/detail/saver.h"
#include "colonnade/checkpoint/detail/sharded_load.h"
#include "colonnade/checkpoint/detail/tree.h"
#include "colonnade/checkpoint/detail/writer.h"
#include "colonnade/comm/exchange.h"

#include <nlohmann/json.hpp>

#include <optional>
#include <utility>
#include <vector>

namespace colonnade::parallel_layers {
namespace {

namespace fs = std::filesystem;
using detail::CheckpointRanks;
using detail::ManifestFile;
using detail::Wanted;
using nlohmann::json;

/// `text` of the rank that commits, on every rank.
std::string from_first(const CheckpointRanks& ranks, const std::string& text) {
  return ranks.world == nullptr
             ? text
             : broadcast_bytes(*ranks.world, text, /*root=*/0);
}

std::string describe_file(const ManifestFile& file) {
  return json{file.path, file.bytes, file.header_digest}.dump();
}

ManifestFile file_from(const std::string& text) {
  const json list = json::parse(text);
  return {list[0], list[1], list[2]};
}

detail::Manifest make_manifest(std::string id,
                               const std::vector<std::string>& files,
                               std::vector<detail::PlannedTensor> plan,
                               const StateDict& state) {
  detail::Manifest manifest;
  manifest.id = std::move(id);
  for (const std::string& file : files) {
    manifest.files.push_back(file_from(file));
  }
  for (detail::PlannedTensor& planned : plan) {
    manifest.tensors.push_back(std::move(planned.entry));
  }
  manifest.state = detail::encode_tree(state);
  return manifest;
}

enum class Rest { kRead, kLeave };

/// model  null: only the state dict
/// rest   whether to read what is not the model's
StateDict load_sharded(const fs::path& load_dir, torch::nn::Module* model,
                       const std::string& model_key, Rest rest) {
  const CheckpointRanks ranks = CheckpointRanks::current("load");
  std::string text;
  // One rank reads the manifest, so that all load the same save.
  detail::together(ranks.world, [&] {
    if (ranks.commits) {
      text = detail::read_manifest_text(load_dir);
    }
  });
  text = from_first(ranks, text);
  std::optional<detail::ShardedLoad> load;
  detail::together(ranks.world, [&] {
    load.emplace(ranks, load_dir, text);
    if (model != nullptr) {
      load->want_model(*model, model_key);
    }
    if (rest == Rest::kRead) {
      load->want_rest();
    }
  });
  load->read();
  return load->finish();
}

void load_unsharded(const fs::path& load_dir, torch::nn::Module& model) {
  const CheckpointRanks ranks = CheckpointRanks::current("load");
  detail::TensorStore store;
  std::vector<Wanted> wanted;
  std::vector<detail::Filling> fillings;
  detail::together(ranks.world, [&] {
    store = detail::open_unsharded(load_dir);
    fillings = detail::match_model(ranks, detail::model_tensors(model), store,
                                   "", "load: " + load_dir.string(), wanted);
  });
  detail::read_wanted(ranks, wanted);
  detail::together(ranks.world, [&] { detail::check_ties(fillings, wanted); });
  detail::fill(fillings, wanted);
}

}  // namespace

void save(const StateDict& state_dict, const fs::path& save_dir) {
  const CheckpointRanks ranks = CheckpointRanks::current("save");
  detail::PreparedSave prepared = detail::prepare_save(ranks, state_dict);

  std::string id;
  std::optional<detail::SaveClaim> claim;
  detail::together(ranks.world, [&] {
    if (ranks.commits) {
      id = detail::make_save_id();
      detail::make_folder(save_dir);
      claim.emplace(save_dir, id);
    }
  });
  id = from_first(ranks, id);

  detail::FileGuard guard;
  std::string file;
  detail::together(ranks.world, [&] {
    if (ranks.writes) {
      file = describe_file(detail::write_rank_file(
          save_dir, id, ranks.rank, prepared.plan, prepared.tensors));
      guard.watch(save_dir / detail::rank_file(ranks.rank, id));
    }
  });
  std::vector<std::string> files;
  if (ranks.writes) {
    files = detail::gather_bytes(ranks.tensor_parallel, file);
  }
  detail::Manifest manifest;
  detail::together(ranks.world, [&] {
    if (ranks.commits) {
      manifest = make_manifest(id, files, std::move(prepared.plan), state_dict);
      detail::write_manifest(save_dir, manifest);
    }
  });
  // From here on the manifest may name the files, whatever happens.
  guard.keep();
  detail::together(ranks.world, [&] {
    if (ranks.commits) {
      detail::commit_manifest(save_dir, manifest);
      detail::remove_leftovers(save_dir);
    }
  });
}

StateDict load(const fs::path& load_dir) {
  return load_sharded(load_dir, nullptr, "", Rest::kRead);
}

StateDict load(const fs::path& load_dir, torch::nn::Module& model,
               const std::string& model_key, bool sharded) {
  if (sharded) {
    return load_sharded(load_dir, &model, model_key, Rest::kRead);
  }
  load_unsharded(load_dir, model);
  return {};
}

void load_model(const fs::path& load_dir, torch::nn::Module& model,
                const std::string& model_key) {
  load_sharded(load_dir, &model, model_key, Rest::kLeave);
}

StateDict load_values(const fs::path& load_dir) {
  const std::string subject = (load_dir / detail::kManifestFile).string();
  const detail::Manifest manifest =
      detail::manifest_from_text(detail::read_manifest_text(load_dir), subject);
  return detail::decode_tree(manifest.state, subject,
                             [](const std::string&) { return StateTensor(); });
}

}  // namespace colonnade::parallel_layers

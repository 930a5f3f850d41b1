// colonnade/parallel_layers/save_load.cpp
#include "colonnade/parallel_layers/save_load.h"

#include "colonnade/checkpoint/detail/consensus.h"
#include "colonnade/checkpoint/detail/loader.h"
#include "colonnade/checkpoint/detail/reader.h"
#include "colonnade/checkpoint/detail/saver.h"
#include "colonnade/checkpoint/detail/tree.h"
#include "colonnade/checkpoint/detail/writer.h"
#include "colonnade/comm/exchange.h"
#include "colonnade/core/error.h"

#include <ATen/ops/empty.h>
#include <torch/nn/module.h>

#include <nlohmann/json.hpp>

#include <cstring>
#include <map>
#include <optional>
#include <utility>
#include <vector>

namespace colonnade::parallel_layers {
namespace {

namespace fs = std::filesystem;
using detail::CheckpointRanks;
using detail::ManifestFile;
using detail::ModelTensor;
using detail::StoredTensor;
using detail::Wanted;
using nlohmann::json;

/// `text` of the rank that commits, on every rank.
std::string from_first(const CheckpointRanks& ranks, const std::string& text) {
  return ranks.world == nullptr
             ? text
             : broadcast_bytes(*ranks.world, text, /*root=*/0);
}

/// Removes a file unless it is told to keep it.
class FileGuard {
 public:
  FileGuard() = default;
  FileGuard(const FileGuard&) = delete;
  FileGuard& operator=(const FileGuard&) = delete;
  ~FileGuard() {
    if (!path_.empty()) {
      detail::try_remove(path_);
    }
  }
  void watch(fs::path path) { path_ = std::move(path); }
  void keep() { path_.clear(); }

 private:
  fs::path path_;
};

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

/// The layout at `degree` of a tensor that was split evenly at another, each
/// of its segments by itself; none where it was not.
std::optional<ShardSpec> even_shard(const StoredTensor& source, int rank,
                                    int degree) {
  const auto saved_degree = static_cast<int64_t>(source.shards.size());
  const int64_t dim = source.shards[0].dim;
  std::vector<int64_t> sizes;
  for (const IndexRange& range : source.shards[0].ranges) {
    sizes.push_back(range.size() * saved_degree);
    if (sizes.back() % degree != 0) {
      return std::nullopt;
    }
  }
  for (int64_t saved = 0; saved < saved_degree; ++saved) {
    if (source.shards[static_cast<size_t>(saved)] !=
        ShardSpec::segments(dim, sizes, saved, saved_degree)) {
      return std::nullopt;
    }
  }
  return ShardSpec::segments(dim, sizes, rank, degree);
}

/// How tensors that no model gets are laid out on this rank.
class RestLayout {
 public:
  RestLayout(const CheckpointRanks& ranks,
             const std::vector<ModelTensor>& model)
      : ranks_(ranks) {
    for (const ModelTensor& tensor : model) {
      model_.emplace(tensor.name, &tensor);
    }
  }

  Wanted want(const detail::Leaf& leaf, const StoredTensor& source) const {
    detail::check_degree(source, ranks_.size);
    if (source.layout == detail::Layout::kPerRank) {
      return {&source, std::nullopt, {}};
    }
    if (const ModelTensor* parameter = find_parameter(leaf, source)) {
      return {&source, parameter->attributes, {}};
    }
    if (source.layout == detail::Layout::kReplicated) {
      return {&source, std::nullopt, {}};
    }
    const auto saved_degree = static_cast<int>(source.shards.size());
    const std::optional<ShardSpec> spec =
        saved_degree == ranks_.size
            ? source.shards[static_cast<size_t>(ranks_.rank)]
            : even_shard(source, ranks_.rank, ranks_.size);
    check<CheckpointError>(
        spec.has_value(), "load: ", leaf.name, ": was saved on ", saved_degree,
        " tensor-parallel ranks, and does not divide evenly over ", ranks_.size,
        "; load it with the model that it belongs to");
    return {&source, TensorParallelAttributes{*spec, source.group}, {}};
  }

 private:
  /// The parameter whose layout the tensor takes: one that its path names, of
  /// the same whole shape, if the tensor was split or is an optimizer's.
  const ModelTensor* find_parameter(const detail::Leaf& leaf,
                                    const StoredTensor& source) const {
    for (size_t i = 0; i < leaf.path.size(); ++i) {
      const auto found = model_.find(to_string(leaf.path[i]));
      const bool is_state =
          i > 0 && leaf.path[i - 1] == StateKey(std::string("state"));
      if (found != model_.end() &&
          (is_state || source.layout == detail::Layout::kSplit) &&
          found->second->whole_shape() == source.shape) {
        return found->second;
      }
    }
    return nullptr;
  }

  const CheckpointRanks& ranks_;
  std::map<std::string, const ModelTensor*> model_;
};

/// A checkpoint on its way into a model and a state dict.
class Load {
 public:
  Load(const CheckpointRanks& ranks, const fs::path& folder,
       const std::string& manifest_text)
      : ranks_(ranks),
        subject_((folder / detail::kManifestFile).string()),
        manifest_(detail::manifest_from_text(manifest_text, subject_)),
        store_(detail::open_checkpoint(folder, manifest_)) {
    // Without tensors at first: their layout depends on where they are.
    state_ =
        detail::decode_tree(manifest_.state, subject_,
                            [](const std::string&) { return StateTensor(); });
  }

  /// The entry `key` is for `model`, and not among what is returned.
  void want_model(const fs::path& folder, const torch::nn::Module& model,
                  const std::string& key) {
    check_arg(state_.contains(key) && state_.at(key).is<StateDict>(),
              "load: ", folder.string(),
              " has no state dict under the model key \"", key,
              "\"; its keys are: ", keys());
    state_.erase(key);
    model_key_ = key;
    model_ = detail::model_tensors(model);
    fillings_ = detail::match_model(ranks_, model_, store_, key + ".",
                                    "load: " + folder.string(), wanted_);
  }

  void want_rest() {
    const RestLayout layout(ranks_, model_);
    for (const detail::Leaf& leaf : detail::find_leaves(state_)) {
      if (!leaf.value->is<StateTensor>()) {
        continue;
      }
      const auto found = store_.names.find(leaf.name);
      check<CheckpointError>(found != store_.names.end(), subject_,
                             ": does not say where tensor ", leaf.name, " is");
      rest_[leaf.name] = want_once(layout.want(leaf, *found->second));
    }
  }

  void read() {
    detail::read_wanted(ranks_, wanted_);
    detail::together(ranks_.world,
                     [&] { detail::check_ties(fillings_, wanted_); });
  }

  StateDict finish() {
    detail::fill(fillings_, wanted_);
    StateDict result = detail::decode_tree(
        manifest_.state, subject_, [&](const std::string& name) -> StateValue {
          const auto found = rest_.find(name);
          if (found == rest_.end()) {
            return StateTensor();  // the model's
          }
          const Wanted& tensor = wanted_[found->second];
          return StateTensor{tensor.value, tensor.attributes};
        });
    if (model_key_.has_value()) {
      result.erase(*model_key_);
    }
    return result;
  }

 private:
  std::string keys() const {
    std::string text;
    for (const auto& entry : state_) {
      text += (text.empty() ? "" : ", ") + to_string(entry.first);
    }
    return text.empty() ? "none" : text;
  }

  /// Tied tensors of one layout are read once, and stay tied.
  size_t want_once(Wanted wanted) {
    const auto key =
        std::pair(wanted.source, wanted.attributes.has_value()
                                     ? to_string(wanted.attributes->spec)
                                     : std::string());
    const auto [at, is_new] = once_.emplace(key, wanted_.size());
    if (is_new) {
      wanted_.push_back(std::move(wanted));
    }
    return at->second;
  }

  const CheckpointRanks& ranks_;
  std::string subject_;
  detail::Manifest manifest_;
  detail::TensorStore store_;
  StateDict state_;
  std::optional<std::string> model_key_;
  std::vector<ModelTensor> model_;
  std::vector<Wanted> wanted_;
  std::vector<detail::Filling> fillings_;
  std::map<std::string, size_t> rest_;  // name to place in wanted_
  std::map<std::pair<const StoredTensor*, std::string>, size_t> once_;
};

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
  std::optional<Load> load;
  detail::together(ranks.world, [&] {
    load.emplace(ranks, load_dir, text);
    if (model != nullptr) {
      load->want_model(load_dir, *model, model_key);
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

  FileGuard guard;
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

// colonnade/checkpoint/detail/sharded_load.cpp
#include "colonnade/checkpoint/detail/sharded_load.h"

#include "colonnade/checkpoint/detail/tree.h"
#include "colonnade/core/error.h"

#include <algorithm>

namespace colonnade::detail {
namespace {

namespace fs = std::filesystem;

/// The shard at `degree` of a tensor that was split evenly at another, each of
/// its segments by itself; none where it was not, or does not divide.
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

/// The same for one that was split as ShardSpec::padded, which always can.
std::optional<ShardSpec> padded_shard(const StoredTensor& source, int rank,
                                      int degree) {
  const auto saved_degree = static_cast<int64_t>(source.shards.size());
  const ShardSpec& first = source.shards[0];
  for (int64_t saved = 0; saved < saved_degree; ++saved) {
    if (source.shards[static_cast<size_t>(saved)] !=
        ShardSpec::padded(first.dim, first.whole_size, saved, saved_degree)) {
      return std::nullopt;
    }
  }
  return ShardSpec::padded(first.dim, first.whole_size, rank, degree);
}

std::string join_keys(const StateDict& dict) {
  std::string text;
  for (const auto& entry : dict) {
    text += (text.empty() ? "" : ", ") + to_string(entry.first);
  }
  return text.empty() ? "none" : text;
}

}  // namespace

ShardedLoad::ShardedLoad(const CheckpointRanks& ranks, fs::path folder,
                         const std::string& manifest_text,
                         const LoadOptions& options)
    : ranks_(ranks),
      folder_(std::move(folder)),
      subject_((folder_ / kManifestFile).string()),
      options_(options),
      manifest_(manifest_from_text(manifest_text, subject_)),
      store_(open_checkpoint(folder_, manifest_)),
      state_(decode_tree(manifest_.state, subject_,
                         [](const std::string&) { return StateTensor(); })) {
  if (options_.map_files) {
    detail::map_files(store_);
  }
}

void ShardedLoad::want_model(const torch::nn::Module& model,
                             const std::string& key) {
  check_arg(state_.contains(key) && state_.at(key).is<StateDict>(),
            "load: ", folder_.string(),
            " has no state dict under the model key \"", key,
            "\"; its keys are: ", join_keys(state_));
  state_.erase(key);
  model_key_ = key;
  model_ = model_tensors(model);
  fillings_ = match_model(ranks_, model_, store_, key + ".",
                          "load: " + folder_.string(), wanted_);
}

void ShardedLoad::want_rest() {
  for (const Leaf& leaf : find_leaves(state_)) {
    if (!leaf.value->is<StateTensor>()) {
      continue;
    }
    const auto found = store_.names.find(leaf.name);
    check<CheckpointError>(found != store_.names.end(), subject_,
                           ": does not say where tensor ", leaf.name, " is");
    rest_[leaf.name] = want_once(lay_out(leaf.path, leaf.name, *found->second));
  }
}

void ShardedLoad::read() {
  read_wanted(ranks_, wanted_);
  together(ranks_.world, [&] { check_ties(fillings_, wanted_); });
}

StateDict ShardedLoad::finish() {
  fill(fillings_, wanted_);
  StateDict result = decode_tree(
      manifest_.state, subject_, [&](const std::string& name) -> StateValue {
        const auto found = rest_.find(name);
        if (found == rest_.end()) {
          return {};  // the model's, which is erased below
        }
        const Wanted& tensor = wanted_[found->second];
        return StateTensor{tensor.value, tensor.attributes};
      });
  if (model_key_.has_value()) {
    result.erase(*model_key_);
  }
  return result;
}

Wanted ShardedLoad::lay_out(const std::vector<StateKey>& path,
                            const std::string& name,
                            const StoredTensor& source) const {
  check_degree(source, ranks_.size);
  if (source.layout == Layout::kPerRank) {
    return {&source, std::nullopt, {}};
  }
  if (const ModelTensor* parameter = find_parameter(path, source)) {
    return {&source, parameter->attributes, {}};
  }
  if (source.layout == Layout::kReplicated) {
    return {&source, std::nullopt, {}};
  }
  const std::optional<ShardSpec> spec = find_spec(source);
  check<CheckpointError>(
      spec.has_value(), "load: ", name, ": was split over ",
      source.shards.size(),
      " tensor-parallel ranks, and cannot be split evenly over ", ranks_.size,
      "; load it with the model that it belongs to");
  return {&source, TensorParallelAttributes{*spec, source.group}, {}};
}

/// This rank's shard of a split tensor without a parameter.
std::optional<ShardSpec> ShardedLoad::find_spec(
    const StoredTensor& source) const {
  if (source.shards.size() == static_cast<size_t>(ranks_.size)) {
    return source.shards[static_cast<size_t>(ranks_.rank)];
  }
  const auto even = even_shard(source, ranks_.rank, ranks_.size);
  return even.has_value() || !options_.padded
             ? even
             : padded_shard(source, ranks_.rank, ranks_.size);
}

/// A parameter that the path names, of the same whole shape; only for a tensor
/// that was split or is an optimizer's.
const ModelTensor* ShardedLoad::find_parameter(
    const std::vector<StateKey>& path, const StoredTensor& source) const {
  const StateKey state = std::string("state");
  for (size_t i = 0; i < path.size(); ++i) {
    if (source.layout != Layout::kSplit && (i == 0 || path[i - 1] != state)) {
      continue;
    }
    const auto found =
        std::ranges::find(model_, to_string(path[i]), &ModelTensor::name);
    if (found != model_.end() && found->whole_shape() == source.shape) {
      return &*found;
    }
  }
  return nullptr;
}

/// Tied tensors of one layout are read once, and stay tied.
size_t ShardedLoad::want_once(Wanted wanted) {
  const auto key =
      std::pair(wanted.source, wanted.attributes.has_value()
                                   ? to_string(wanted.attributes->spec)
                                   : std::string());
  // A second layout of the same bytes is a tensor of its own.
  const auto other = once_.lower_bound({wanted.source, ""});
  const bool is_first =
      other == once_.end() || other->first.first != wanted.source;
  const auto [at, is_new] = once_.emplace(key, wanted_.size());
  if (is_new) {
    wanted.map = options_.map_files && is_first;
    wanted_.push_back(std::move(wanted));
  }
  return at->second;
}

}  // namespace colonnade::detail

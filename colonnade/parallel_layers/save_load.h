// colonnade/parallel_layers/save_load.h
#pragma once

#include "colonnade/checkpoint/state_dict.h"
#include "colonnade/core/api.h"

#include <filesystem>
#include <string>

namespace torch::nn {
class Module;
}

namespace colonnade::parallel_layers {

/// Writes `state_dict` under `save_dir`: `manifest.json`, and each
/// tensor-parallel rank's shards as safetensors in `tp_rank_<i>`.
///
/// Collective: every rank calls; ranks of data-parallel rank 0 write; all
/// return when the checkpoint is committed. The manifest is renamed into
/// place last, so a save that dies leaves the checkpoint before it whole.
/// docs/checkpoint_format.md describes the files.
///
/// Cost    one pass over this rank's tensors to digest and one to write; no
///         tensor is gathered
/// Errors  InvalidArgument names the key whose value cannot be saved, or
///         differs between ranks; CheckpointError where a write fails. An
///         error on one rank is thrown on all.
COLONNADE_API void save(const StateDict& state_dict,
                        const std::filesystem::path& save_dir);

/// This rank's part of the checkpoint in `load_dir`, at any tensor-parallel
/// degree where the split is even. Collective.
///
/// Errors  CheckpointError names the file or tensor that is missing, cut,
///         altered or from another save, and the entry that belongs to a rank
///         of another degree.
COLONNADE_API StateDict load(const std::filesystem::path& load_dir);

/// Fills `model` from the entry `model_key` and returns the others; optimizer
/// entries take the layout of their parameters. Reads only the bytes that this
/// rank needs. Collective; no parameter is changed until every rank has
/// succeeded.
///
/// sharded  False reads safetensors files that know nothing of ranks: one file,
///          or a folder with one or with an index; `model_key` does not apply,
///          and what it returns is empty.
/// Errors   as above, and one InvalidArgument that lists all missing,
///          unexpected and mismatched keys with both shapes
COLONNADE_API StateDict load(const std::filesystem::path& load_dir,
                             torch::nn::Module& model,
                             const std::string& model_key = "model",
                             bool sharded = true);

/// Fills `model` as `load` does, and reads nothing else of the checkpoint, nor
/// verifies it: for using a model without the optimizer it was trained with.
/// Collective.
COLONNADE_API void load_model(const std::filesystem::path& load_dir,
                              torch::nn::Module& model,
                              const std::string& model_key = "model");

/// The checkpoint's state dict with every tensor undefined: what it takes to
/// build the model that `load` then fills. Reads the manifest only; not
/// collective, and needs no ranks.
COLONNADE_API StateDict load_values(const std::filesystem::path& load_dir);

/// Writes the whole model as plain safetensors, one file
/// `model.safetensors`, under names that any reader knows. Tied tensors are
/// stored once, with aliases in the metadata. Collective; beside
/// its shards a rank holds one shard more, and only rank 0 one whole tensor.
COLONNADE_API void save_unsharded(const torch::nn::Module& model,
                                  const std::filesystem::path& save_dir);

}  // namespace colonnade::parallel_layers

// colonnade/parallel_layers/save_unsharded.cpp
#include "colonnade/checkpoint/detail/consensus.h"
#include "colonnade/checkpoint/detail/save_files.h"
#include "colonnade/checkpoint/detail/saver.h"
#include "colonnade/checkpoint/detail/writer.h"
#include "colonnade/core/error.h"
#include "colonnade/parallel_layers/save_load.h"

#include <ATen/ops/empty.h>
#include <torch/nn/module.h>

#include <cstring>
#include <optional>
#include <utility>
#include <vector>

namespace colonnade::parallel_layers {
namespace {

namespace fs = std::filesystem;
using detail::CheckpointRanks;
using detail::ManifestPart;
using detail::Piece;
using detail::PlannedTensor;

constexpr const char* kFile = "model.safetensors";

/// Copies the elements that both pieces have.
void copy_overlap(const at::Tensor& to, const Piece& to_piece,
                  const at::Tensor& from, const Piece& from_piece) {
  const int64_t size = from.element_size();
  char* out = static_cast<char*>(to.mutable_data_ptr());
  const char* in = static_cast<const char*>(from.const_data_ptr());
  detail::for_each_overlap(
      to_piece, from_piece, [&](int64_t to_at, int64_t from_at, int64_t count) {
        std::memcpy(out + to_at * size, in + from_at * size,
                    static_cast<size_t>(count * size));
      });
}

/// The whole of one tensor on rank 0, undefined on the others. Each rank sends
/// the part that it would write into a checkpoint.
at::Tensor collect(const CheckpointRanks& ranks, const PlannedTensor& planned,
                   const at::Tensor& tensor) {
  const detail::ManifestTensor& entry = planned.entry;
  if (!planned.is_split()) {
    return ranks.rank == 0 ? detail::host_tensor(tensor) : at::Tensor();
  }
  const auto options = at::TensorOptions().dtype(entry.dtype);
  at::Tensor whole;
  if (ranks.rank == 0) {
    whole = at::empty(entry.shape, options);
  }
  const Piece all = detail::whole_piece(c10::multiply_integers(entry.shape));
  for (const ManifestPart& part : entry.parts) {
    if (ranks.rank != 0 && ranks.rank != part.file) {
      continue;
    }
    const Piece packed =
        detail::make_piece(entry.shape, entry.shards[0].dim, part.ranges,
                           detail::total_size(part.ranges));
    const Piece local =
        detail::restrict_to(planned.local_piece(ranks.rank), part.ranges);
    if (ranks.rank == part.file && ranks.rank == 0) {
      copy_overlap(whole, all, detail::host_tensor(tensor), local);
      continue;
    }
    at::Tensor buffer = at::empty({packed.numel()}, options);
    if (ranks.rank == part.file) {
      copy_overlap(buffer, packed, detail::host_tensor(tensor), local);
      ranks.tensor_parallel->send(buffer, 0);
    } else {
      ranks.tensor_parallel->recv(buffer, part.file);
      copy_overlap(whole, all, buffer, packed);
    }
  }
  return whole;
}

/// Aliases stand in the metadata as {alias: name}, as safetensors' own
/// save_model has them.
detail::SafetensorsHeader make_header(
    const std::vector<const PlannedTensor*>& tensors) {
  detail::SafetensorsHeader header;
  header.metadata["format"] = "pt";
  for (const PlannedTensor* planned : tensors) {
    const detail::ManifestTensor& entry = planned->entry;
    header.entries.push_back({entry.name, entry.dtype, entry.shape});
    for (const std::string& alias : entry.aliases) {
      header.metadata[alias] = entry.name;
    }
  }
  return header;
}

void check_has_whole(const PlannedTensor& planned) {
  check_arg(planned.entry.layout != detail::Layout::kPerRank,
            "save_unsharded: ", planned.entry.name,
            ": differs between tensor-parallel ranks and has no sharding "
            "attributes, so there is no whole to save");
}

}  // namespace

void save_unsharded(const torch::nn::Module& model, const fs::path& save_dir) {
  const CheckpointRanks ranks = CheckpointRanks::current("save_unsharded");
  const detail::PreparedSave prepared =
      detail::prepare_save(ranks, state_dict(model));
  std::vector<const PlannedTensor*> order;
  for (const PlannedTensor& planned : prepared.plan) {
    order.push_back(&planned);
  }
  detail::sort_for_file(order);

  fs::path temporary;
  detail::FileGuard guard;
  std::optional<detail::SafetensorsWriter> writer;
  detail::together(ranks.world, [&] {
    for (const PlannedTensor* planned : order) {
      check_has_whole(*planned);
    }
    if (ranks.commits) {
      detail::make_folder(save_dir);
      temporary = save_dir / concat(kFile, ".", detail::make_save_id());
      writer.emplace(temporary, make_header(order));
      guard.watch(temporary);
    }
  });
  for (const PlannedTensor* planned : order) {
    at::Tensor whole;
    if (ranks.writes) {
      whole =
          collect(ranks, *planned,
                  detail::find_tensor(prepared.tensors, planned->entry.name));
    }
    detail::together(ranks.world, [&] {
      if (ranks.commits) {
        writer->write(whole, detail::whole_piece(whole.numel()));
      }
    });
  }
  detail::together(ranks.world, [&] {
    if (ranks.commits) {
      writer->finish();
      detail::replace_file(save_dir / kFile, temporary);
    }
  });
}

}  // namespace colonnade::parallel_layers

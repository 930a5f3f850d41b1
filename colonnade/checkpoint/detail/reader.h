// colonnade/checkpoint/detail/reader.h
#pragma once

#include "colonnade/checkpoint/detail/file.h"
#include "colonnade/checkpoint/detail/manifest.h"
#include "colonnade/checkpoint/detail/piece.h"
#include "colonnade/checkpoint/detail/safetensors.h"
#include "colonnade/core/api.h"

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace colonnade::detail {

/// An open safetensors file whose header was found in order.
struct SafetensorsFile {
  File file;
  std::string header_text;
  SafetensorsHeader header;
  std::map<std::string, const SafetensorsEntry*> entries;  ///< By name.
  std::shared_ptr<char> mapping = nullptr;  ///< Of all of it, by map_files.
};

/// Some elements of a whole tensor in a file.
struct StoredPart {
  const SafetensorsFile* file;
  int64_t offset;  ///< Of the first, in bytes.
  Piece piece;
  uint64_t digest = 0;
};

struct StoredTensor {
  std::string name;
  at::ScalarType dtype;
  Layout layout = Layout::kReplicated;
  std::vector<int64_t> shape;     ///< Of the whole.
  std::vector<StoredPart> parts;  ///< Of each rank, if each has its own.
  std::vector<std::vector<int64_t>> rank_shapes;  ///< Only then.
  std::string group;                              ///< Only if split.
  std::vector<ShardSpec> shards;                  ///< Only if split.
  std::optional<uint64_t> digest;  ///< None in files that have none.

  bool belongs_to_rank() const { return layout == Layout::kPerRank; }
};

/// All tensors that a checkpoint, or a folder of plain safetensors, holds, with
/// the files open.
struct TensorStore {
  std::vector<std::unique_ptr<SafetensorsFile>> files;
  std::vector<std::unique_ptr<StoredTensor>> tensors;
  std::map<std::string, const StoredTensor*> names;  ///< Aliases too.
};

/// The text of the folder's manifest.
///
/// Errors  CheckpointError where there is none, with a hint where there are
///         plain safetensors
COLONNADE_API std::string read_manifest_text(
    const std::filesystem::path& folder);

/// Opens the files that `manifest` names.
///
/// Errors  CheckpointError names the file that is missing, cut, longer than it
///         was, from another save or altered in its header
TensorStore open_checkpoint(const std::filesystem::path& folder,
                            const Manifest& manifest);

/// Opens plain safetensors: one file, or a folder that has
/// `model.safetensors`, `model.safetensors.index.json`, or exactly one
/// `*.safetensors`.
COLONNADE_API TensorStore open_unsharded(const std::filesystem::path& path);

/// Maps the store's files, for find_mapped.
COLONNADE_API void map_files(TensorStore& store);

/// Reads those elements of `wanted` within `window` that `part` has. `out` is
/// the tensor that `wanted` describes.
///
/// buffer  memory for what is read but not wanted, kept from call to call
/// Cost    reads only the bytes between the first and the last that are wanted,
///         without gaps above 64 KiB; 4 MiB of memory
void read_part(const StoredPart& part, const Piece& wanted, IndexRange window,
               void* out, int64_t element_size, std::vector<char>& buffer);

/// Bytes of a mapped file.
struct MappedBytes {
  std::shared_ptr<char> file;  ///< Keeps them.
  char* data = nullptr;
};

/// Where `wanted` lies in memory, element by element as in the tensor that it
/// describes; none where its file is not mapped, `parts` have it in several
/// stretches, or it is not aligned.
COLONNADE_API std::optional<MappedBytes> find_mapped(
    std::span<const StoredPart> parts, const Piece& wanted,
    int64_t element_size);

/// Throws CheckpointError naming the file if the part is not, byte for byte,
/// what was saved.
void check_part(const StoredTensor& tensor, const StoredPart& part);

}  // namespace colonnade::detail

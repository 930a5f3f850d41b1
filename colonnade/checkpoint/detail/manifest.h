// colonnade/checkpoint/detail/manifest.h
#pragma once

#include "colonnade/core/api.h"
#include "colonnade/sharding/attributes.h"

#include <c10/core/ScalarType.h>

#include <nlohmann/json.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace colonnade::detail {

inline constexpr const char* kManifestFile = "manifest.json";

/// How a tensor lies over tensor-parallel ranks.
enum class Layout {
  kReplicated,  ///< Equal on all; stored once.
  kSplit,       ///< Each rank holds ranges of one whole.
  kPerRank,     ///< Each rank has a tensor of its own.
};

/// What one file holds of a tensor, under the tensor's name.
struct ManifestPart {
  int file = 0;                    ///< The tensor-parallel rank that wrote it.
  std::vector<IndexRange> ranges;  ///< Of the split dim; only if split.
  std::vector<int64_t> shape;      ///< Only if each rank has its own.
  uint64_t digest = 0;
};

struct ManifestTensor {
  std::string name;
  std::vector<std::string> aliases;  ///< Further names of the same tensor.
  at::ScalarType dtype = at::kFloat;
  Layout layout = Layout::kReplicated;
  std::vector<int64_t> shape;     ///< Of the whole; empty if each has its own.
  std::string group;              ///< That it was split over; only if split.
  std::vector<ShardSpec> shards;  ///< One a rank; only if split.
  std::vector<ManifestPart> parts;
  uint64_t digest = 0;  ///< Of the whole: the sum over the parts.
};

struct ManifestFile {
  std::string path;  ///< Relative to the checkpoint.
  int64_t bytes = 0;
  std::string header_digest;
};

/// A file beside the tensors, such as a traced model's graph.
struct ManifestAttachment {
  std::string name;
  std::string path;  ///< Relative to the checkpoint.
  int64_t bytes = 0;
  std::string digest;
};

/// What manifest.json says. docs/checkpoint_format.md has an example.
struct Manifest {
  std::string id;                   ///< Of the save that wrote it.
  std::vector<ManifestFile> files;  ///< One a tensor-parallel rank.
  std::vector<ManifestAttachment> attachments;
  std::vector<ManifestTensor> tensors;
  nlohmann::json state;  ///< From encode_tree.

  int tensor_parallel_size() const { return static_cast<int>(files.size()); }
};

/// The file's text, which begins with the digest of all that follows.
COLONNADE_API std::string to_text(const Manifest& manifest);

/// The other way round.
///
/// subject  the file's path, for errors
/// Errors   CheckpointError where a byte is not as `to_text` wrote it, or the
///          text is of a format that is not known
COLONNADE_API Manifest manifest_from_text(const std::string& text,
                                          const std::string& subject);

/// The path of a rank's file in a save: "tp_rank_0/<id>.safetensors".
std::string rank_folder(int rank);
std::string rank_file(int rank, const std::string& id);
/// The path of an attachment in a save: "<id>.graph.json".
std::string attachment_file(std::string_view name, std::string_view id);

}  // namespace colonnade::detail

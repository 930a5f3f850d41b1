// colonnade/checkpoint/detail/writer.h
#pragma once

#include "colonnade/checkpoint/detail/file.h"
#include "colonnade/checkpoint/detail/manifest.h"
#include "colonnade/checkpoint/detail/plan.h"
#include "colonnade/checkpoint/detail/safetensors.h"

#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace colonnade::detail {

/// Writes a safetensors file, tensor by tensor. A file that is not finished is
/// removed again.
class SafetensorsWriter {
 public:
  /// Makes the file and writes its header.
  ///
  /// entries  name, dtype and shape of all tensors, in order; their offsets are
  ///          set here
  SafetensorsWriter(const std::filesystem::path& path,
                    SafetensorsHeader header);
  ~SafetensorsWriter();

  /// The next tensor: those elements of `tensor` that `piece` describes.
  void write(const at::Tensor& tensor, const Piece& piece);

  /// Makes the file survive a power failure; returns its size and digest.
  ManifestFile finish();

 private:
  void write_bytes(const char* data, int64_t size);
  void flush();

  File file_;
  ManifestFile description_;
  std::string buffer_;  // gathers small writes
  bool finished_ = false;
};

/// The order in which tensors go into a file: those of large elements first, so
/// that each is aligned.
void sort_for_file(std::vector<const PlannedTensor*>& tensors);

/// Writes the parts that the plan gives to `rank` into a file of its own.
///
/// Cost    one pass over the elements, and 4 MiB of memory where they do not
///         lie together
ManifestFile write_rank_file(const std::filesystem::path& folder,
                             const std::string& id, int rank,
                             std::span<const PlannedTensor> plan,
                             std::span<const LocalTensor> tensors);

/// The commit, in two steps: after the first the old manifest still counts.
void write_manifest(const std::filesystem::path& folder,
                    const Manifest& manifest);
void commit_manifest(const std::filesystem::path& folder,
                     const Manifest& manifest);

}  // namespace colonnade::detail

// colonnade/checkpoint/detail/writer.cpp
#include "colonnade/checkpoint/detail/writer.h"

#include "colonnade/checkpoint/detail/digest.h"
#include "colonnade/checkpoint/detail/safetensors.h"
#include "colonnade/checkpoint/detail/save_files.h"
#include "colonnade/core/error.h"

#include <algorithm>
#include <utility>

namespace colonnade::detail {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kBufferBytes = int64_t{4} << 20;

/// What `rank` stores of a tensor, or nothing.
const ManifestPart* part_of(const ManifestTensor& tensor, int rank) {
  const auto found = std::ranges::find(tensor.parts, rank, &ManifestPart::file);
  return found == tensor.parts.end() ? nullptr : &*found;
}

}  // namespace

SafetensorsWriter::SafetensorsWriter(const fs::path& path,
                                     SafetensorsHeader header)
    : file_(File::create(path)) {
  const std::string text = header.layout();
  description_ = {"", header.file_bytes, bytes_digest(text)};
  write_bytes(text.data(), static_cast<int64_t>(text.size()));
}

SafetensorsWriter::~SafetensorsWriter() {
  if (!finished_) {
    try_remove(file_.path());
  }
}

void SafetensorsWriter::write(const at::Tensor& tensor, const Piece& piece) {
  const at::Tensor host = host_tensor(tensor);
  const char* data = static_cast<const char*>(host.const_data_ptr());
  const int64_t size = host.element_size();
  for_each_run(piece, [&](const Run& run) {
    write_bytes(data + run.local * size, run.count * size);
  });
}

ManifestFile SafetensorsWriter::finish() {
  flush();
  file_.finish();
  finished_ = true;
  return description_;
}

void SafetensorsWriter::write_bytes(const char* data, int64_t size) {
  if (static_cast<int64_t>(buffer_.size()) + size > kBufferBytes) {
    flush();
  }
  if (size >= kBufferBytes) {
    file_.write(data, size);
  } else {
    buffer_.append(data, static_cast<size_t>(size));
  }
}

void SafetensorsWriter::flush() {
  file_.write(buffer_.data(), static_cast<int64_t>(buffer_.size()));
  buffer_.clear();
}

void sort_for_file(std::vector<const PlannedTensor*>& tensors) {
  std::ranges::stable_sort(tensors, [](const auto* a, const auto* b) {
    return c10::elementSize(a->entry.dtype) > c10::elementSize(b->entry.dtype);
  });
}

ManifestFile write_rank_file(const fs::path& folder, const std::string& id,
                             int rank, std::span<const PlannedTensor> plan,
                             std::span<const LocalTensor> tensors) {
  std::vector<const PlannedTensor*> mine;
  for (const PlannedTensor& planned : plan) {
    if (part_of(planned.entry, rank) != nullptr) {
      mine.push_back(&planned);
    }
  }
  sort_for_file(mine);
  SafetensorsHeader header;
  header.metadata = {
      {"format", "pt"}, {"save", id}, {"tp_rank", std::to_string(rank)}};
  for (const PlannedTensor* planned : mine) {
    const ManifestTensor& entry = planned->entry;
    std::vector<int64_t> shape =
        planned->local_shapes[static_cast<size_t>(rank)];
    if (planned->is_split()) {
      shape[static_cast<size_t>(entry.shards[0].dim)] =
          total_size(part_of(entry, rank)->ranges);
    }
    header.entries.push_back({entry.name, entry.dtype, std::move(shape)});
  }

  make_folder(folder / rank_folder(rank));
  SafetensorsWriter writer(folder / rank_file(rank, id), std::move(header));
  for (const PlannedTensor* planned : mine) {
    Piece piece = planned->local_piece(rank);
    if (planned->is_split()) {
      piece = restrict_to(piece, part_of(planned->entry, rank)->ranges);
    }
    writer.write(find_tensor(tensors, planned->entry.name), piece);
  }
  ManifestFile file = writer.finish();
  sync_folder(folder / rank_folder(rank));
  file.path = rank_file(rank, id);
  return file;
}

void write_manifest(const fs::path& folder, const Manifest& manifest) {
  write_text(folder / temporary_manifest(manifest.id), to_text(manifest));
}

void commit_manifest(const fs::path& folder, const Manifest& manifest) {
  if (!manifest.attachments.empty()) {
    sync_folder(folder);
  }
  replace_file(folder / kManifestFile,
               folder / temporary_manifest(manifest.id));
}

}  // namespace colonnade::detail

// colonnade/checkpoint/detail/writer.cpp
#include "colonnade/checkpoint/detail/writer.h"

#include "colonnade/checkpoint/detail/digest.h"
#include "colonnade/checkpoint/detail/reader.h"
#include "colonnade/checkpoint/detail/safetensors.h"
#include "colonnade/core/error.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <ctime>
#include <random>
#include <set>
#include <utility>

namespace colonnade::detail {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kRankFolder = "tp_rank_";
constexpr std::string_view kSafetensors = ".safetensors";
constexpr std::string_view kClaim = ".saving";
constexpr std::string_view kTemporary = "manifest.json.";

constexpr int64_t kBufferBytes = int64_t{4} << 20;

/// Is it a name that make_save_id may have made?
bool is_save_id(std::string_view text) {
  constexpr std::string_view kPattern = "ddddddddTdddddd-xxxxxxxxxxxxxxxx";
  return text.size() == kPattern.size() &&
         std::equal(text.begin(), text.end(), kPattern.begin(),
                    [](char c, char kind) {
                      const bool digit = '0' <= c && c <= '9';
                      return kind == 'd'   ? digit
                             : kind == 'x' ? digit || ('a' <= c && c <= 'f')
                                           : c == kind;
                    });
}

/// The id in `prefix` id `suffix`; empty where the name is not of that form.
std::string id_of(std::string_view name, std::string_view prefix,
                  std::string_view suffix) {
  if (name.size() <= prefix.size() + suffix.size() ||
      !name.starts_with(prefix) || !name.ends_with(suffix)) {
    return "";
  }
  name.remove_prefix(prefix.size());
  name.remove_suffix(suffix.size());
  return is_save_id(name) ? std::string(name) : "";
}

bool is_rank_folder(std::string_view name) {
  const std::string_view number =
      name.substr(std::min(name.size(), kRankFolder.size()));
  return name.starts_with(kRankFolder) && !number.empty() &&
         std::ranges::all_of(number,
                             [](char c) { return '0' <= c && c <= '9'; });
}

fs::path claim_path(const fs::path& folder, const std::string& id) {
  return folder / concat(id, kClaim);
}

fs::path temporary_path(const fs::path& folder, const std::string& id) {
  return folder / concat(kTemporary, id);
}

/// What `rank` stores of a tensor, or nothing.
const ManifestPart* part_of(const ManifestTensor& tensor, int rank) {
  const auto found = std::ranges::find(tensor.parts, rank, &ManifestPart::file);
  return found == tensor.parts.end() ? nullptr : &*found;
}

}  // namespace

std::string make_save_id() {
  const std::time_t now =
      std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm utc{};
  ::gmtime_r(&now, &utc);
  char time[16];
  std::strftime(time, sizeof(time), "%Y%m%dT%H%M%S", &utc);
  std::random_device chance;
  return concat(time, "-",
                to_hex(uint64_t{chance()} << 32 | uint64_t{chance()}));
}

SaveClaim::SaveClaim(const fs::path& folder, const std::string& id)
    : FileLock(claim_path(folder, id)) {}

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
  const std::string text = to_text(manifest);
  const fs::path path = temporary_path(folder, manifest.id);
  File file = File::create(path);
  try {
    file.write(text.data(), static_cast<int64_t>(text.size()));
    file.finish();
  } catch (...) {
    try_remove(path);
    throw;
  }
}

void commit_manifest(const fs::path& folder, const Manifest& manifest) {
  replace_file(folder / kManifestFile, temporary_path(folder, manifest.id));
}

void remove_leftovers(const fs::path& folder) {
  // In this order: a save that commits meanwhile is seen by its claim or in
  // the manifest.
  std::vector<std::pair<std::string, fs::path>> candidates;
  for (const std::string& name : list_folder(folder)) {
    candidates.emplace_back(id_of(name, kTemporary, ""), folder / name);
    if (is_rank_folder(name)) {
      for (const std::string& file : list_folder(folder / name)) {
        candidates.emplace_back(id_of(file, "", kSafetensors),
                                folder / name / file);
      }
    }
  }
  std::set<std::string> claims;
  for (const std::string& name : list_folder(folder)) {
    const std::string id = id_of(name, "", kClaim);
    if (!id.empty() && FileLock::is_held(folder / name)) {
      claims.insert(id);
    }
  }
  try {
    claims.insert(
        manifest_from_text(read_manifest_text(folder), kManifestFile).id);
  } catch (const CheckpointError&) {
    return;
  }
  for (const auto& [id, path] : candidates) {
    if (!id.empty() && !claims.contains(id)) {
      try_remove(path);
    }
  }
}

}  // namespace colonnade::detail

// colonnade/checkpoint/detail/reader.cpp
#include "colonnade/checkpoint/detail/reader.h"

#include "colonnade/checkpoint/detail/digest.h"
#include "colonnade/core/error.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>

namespace colonnade::detail {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int64_t kMaxManifestBytes = int64_t{1} << 30;
constexpr int64_t kBufferBytes = int64_t{4} << 20;
constexpr int64_t kMaxGapBytes = int64_t{64} << 10;
constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";

std::unique_ptr<SafetensorsFile> make_file(File file, std::string text) {
  auto result = std::make_unique<SafetensorsFile>(
      SafetensorsFile{std::move(file), std::move(text), {}, {}, nullptr});
  result->header = parse_safetensors_header(result->header_text, result->file);
  for (const SafetensorsEntry& entry : result->header.entries) {
    result->entries[entry.name] = &entry;
  }
  return result;
}

std::unique_ptr<SafetensorsFile> open_plain(const fs::path& path) {
  File file = File::open_for_reading(path);
  std::string header = read_safetensors_header(file);
  return make_file(std::move(file), std::move(header));
}

/// Why a header differs from the one that was saved.
std::string explain(const SafetensorsHeader& header, const std::string& id) {
  const auto save = header.metadata.find("save");
  if (save != header.metadata.end() && save->second != id) {
    return concat("is of save ", save->second, ", but the manifest of save ",
                  id);
  }
  return "its header does not match its digest; it was altered";
}

std::unique_ptr<SafetensorsFile> open_of_save(const fs::path& folder,
                                              const ManifestFile& saved,
                                              const std::string& id) {
  const fs::path path = folder / saved.path;
  File file = File::open_for_reading(path);
  std::string header = read_safetensors_header(file);
  if (bytes_digest(header) != saved.header_digest) {
    SafetensorsHeader parsed;
    try {
      parsed = parse_safetensors_header(header, file);
    } catch (const CheckpointError&) {
      // Then it has no metadata that could explain it.
    }
    throw CheckpointError(concat(path.string(), ": ", explain(parsed, id)));
  }
  check_size(file, saved.bytes);
  return make_file(std::move(file), std::move(header));
}

/// Finds a part in its file, where it must be what the manifest says.
StoredPart find_part(const SafetensorsFile& file, const ManifestTensor& tensor,
                     const std::vector<int64_t>& shape, Piece piece,
                     uint64_t digest) {
  const auto found = file.entries.find(tensor.name);
  const std::string subject = file.file.path().string();
  check<CheckpointError>(found != file.entries.end(), subject,
                         ": has no tensor ", tensor.name);
  const SafetensorsEntry& entry = *found->second;
  check<CheckpointError>(
      entry.dtype == tensor.dtype && entry.shape == shape, subject, ": tensor ",
      tensor.name, ": is ", dtype_name(entry.dtype), " ",
      at::IntArrayRef(entry.shape), ", but ", dtype_name(tensor.dtype), " ",
      at::IntArrayRef(shape), " in the manifest");
  return {&file, entry.offset, std::move(piece), digest};
}

StoredPart find_part(const TensorStore& store, const ManifestTensor& tensor,
                     const ManifestPart& part) {
  const SafetensorsFile& file = *store.files[static_cast<size_t>(part.file)];
  if (tensor.layout != Layout::kSplit) {
    const auto& shape =
        tensor.layout == Layout::kPerRank ? part.shape : tensor.shape;
    return find_part(file, tensor, shape,
                     whole_piece(c10::multiply_integers(shape)), part.digest);
  }
  ShardSpec spec = tensor.shards.front();
  spec.ranges = part.ranges;
  spec.local_size = total_size(part.ranges);
  const std::vector<int64_t> shape = spec.local_shape(tensor.shape);
  spec.validate(shape, concat(file.file.path().string(), ": ", tensor.name));
  return find_part(
      file, tensor, shape,
      make_piece(tensor.shape, spec.dim, spec.ranges, spec.local_size),
      part.digest);
}

/// Collects wanted stretches of a file that lie close together, and reads each
/// such stretch at once.
class RangeReader {
 public:
  RangeReader(const File& file, std::vector<char>& buffer)
      : file_(file), buffer_(buffer) {}

  /// Offsets ascend from call to call.
  void add(int64_t offset, char* out, int64_t size) {
    if (size >= kBufferBytes) {
      flush();
      file_.read(offset, out, size);
      return;
    }
    if (!wanted_.empty() && (offset - end_ > kMaxGapBytes ||
                             offset + size - begin_ > kBufferBytes)) {
      flush();
    }
    if (wanted_.empty()) {
      begin_ = offset;
    } else if (offset == end_ && out == wanted_.back().end()) {
      end_ += size;
      wanted_.back().size += size;
      return;
    }
    end_ = offset + size;
    wanted_.push_back({offset, out, size});
  }

  void flush() {
    if (wanted_.empty()) {
      return;
    }
    if (wanted_.size() == 1) {
      file_.read(wanted_[0].offset, wanted_[0].out, wanted_[0].size);
    } else {
      buffer_.resize(
          std::max(buffer_.size(), static_cast<size_t>(end_ - begin_)));
      file_.read(begin_, buffer_.data(), end_ - begin_);
      for (const Stretch& stretch : wanted_) {
        std::memcpy(stretch.out, buffer_.data() + (stretch.offset - begin_),
                    static_cast<size_t>(stretch.size));
      }
    }
    wanted_.clear();
  }

 private:
  struct Stretch {
    int64_t offset;
    char* out;
    int64_t size;

    const char* end() const { return out + size; }
  };

  const File& file_;
  std::vector<char>& buffer_;
  std::vector<Stretch> wanted_;
  int64_t begin_ = 0;
  int64_t end_ = 0;
};

/// The one file in `folder` whose name ends in .safetensors.
fs::path only_safetensors(const fs::path& folder) {
  std::vector<fs::path> found;
  for (const std::string& name : list_folder(folder)) {
    if (fs::path(name).extension() == ".safetensors") {
      found.push_back(folder / name);
    }
  }
  std::error_code error;
  check<CheckpointError>(
      !found.empty() || !fs::exists(folder / kManifestFile, error),
      folder.string(),
      ": is a sharded checkpoint; load it with sharded = true");
  check<CheckpointError>(found.size() == 1, folder.string(), ": has ",
                         found.size(), " files *.safetensors, and neither ",
                         kSingleFile, " nor ", kIndexFile, "; name the file");
  return found[0];
}

void add_tensor(TensorStore& store, const SafetensorsFile& file,
                const SafetensorsEntry& entry) {
  auto tensor = std::make_unique<StoredTensor>();
  tensor->name = entry.name;
  tensor->dtype = entry.dtype;
  tensor->shape = entry.shape;
  tensor->parts = {{&file, entry.offset, whole_piece(entry.numel())}};
  store.names[entry.name] = tensor.get();
  store.tensors.push_back(std::move(tensor));
}

/// Names of tied tensors, which are stored once: metadata says
/// {alias: name}, as safetensors' own save_model has it.
void add_aliases(TensorStore& store, const SafetensorsFile& file) {
  for (const auto& [alias, name] : file.header.metadata) {
    if (!store.names.contains(alias) && store.names.contains(name)) {
      store.names[alias] = store.names[name];
    }
  }
}

TensorStore open_single(const fs::path& path) {
  TensorStore store;
  store.files.push_back(open_plain(path));
  const SafetensorsFile& file = *store.files.back();
  for (const SafetensorsEntry& entry : file.header.entries) {
    add_tensor(store, file, entry);
  }
  add_aliases(store, file);
  return store;
}

TensorStore open_indexed(const fs::path& index_path) {
  const std::string subject = index_path.string();
  const json index = json::parse(read_text(index_path, kMaxManifestBytes),
                                 nullptr, /*allow_exceptions=*/false);
  check<CheckpointError>(index.is_object() && index.contains("weight_map") &&
                             index["weight_map"].is_object(),
                         subject, ": is not a JSON object with a weight_map");
  TensorStore store;
  std::map<std::string, const SafetensorsFile*> files;
  for (const auto& [name, value] : index["weight_map"].items()) {
    check<CheckpointError>(value.is_string(), subject, ": tensor ", name,
                           ": has no file");
    const std::string file_name = value.get<std::string>();
    check<CheckpointError>(fs::path(file_name).filename() == file_name &&
                               file_name != ".." && file_name != ".",
                           subject, ": tensor ", name, ": its file \"",
                           file_name, "\" is not a plain name in this folder");
    const SafetensorsFile*& file = files[file_name];
    if (file == nullptr) {
      store.files.push_back(open_plain(index_path.parent_path() / file_name));
      file = store.files.back().get();
    }
    const auto entry = file->entries.find(name);
    check<CheckpointError>(entry != file->entries.end(),
                           file->file.path().string(), ": has no tensor ", name,
                           ", which ", kIndexFile, " says is in it");
    add_tensor(store, *file, *entry->second);
  }
  for (const auto& file : store.files) {
    add_aliases(store, *file);
  }
  return store;
}

}  // namespace

std::string read_manifest_text(const fs::path& folder) {
  const fs::path path = folder / kManifestFile;
  std::error_code error;
  if (!fs::exists(path, error)) {
    check<CheckpointError>(fs::is_directory(folder, error), folder.string(),
                           ": is not a folder with a checkpoint");
    const bool plain =
        std::ranges::any_of(list_folder(folder), [](const std::string& name) {
          return fs::path(name).extension() == ".safetensors";
        });
    throw CheckpointError(
        concat(path.string(), ": is missing; ",
               plain ? "for plain safetensors files pass sharded = false"
                     : "no save into this folder was completed"));
  }
  return read_text(path, kMaxManifestBytes);
}

TensorStore open_checkpoint(const fs::path& folder, const Manifest& manifest) {
  TensorStore store;
  for (const ManifestFile& file : manifest.files) {
    store.files.push_back(open_of_save(folder, file, manifest.id));
  }
  for (const ManifestTensor& saved : manifest.tensors) {
    auto tensor = std::make_unique<StoredTensor>();
    tensor->name = saved.name;
    tensor->dtype = saved.dtype;
    tensor->layout = saved.layout;
    tensor->shape = saved.shape;
    tensor->group = saved.group;
    tensor->shards = saved.shards;
    tensor->digest = saved.digest;
    for (const ManifestPart& part : saved.parts) {
      tensor->parts.push_back(find_part(store, saved, part));
      if (saved.layout == Layout::kPerRank) {
        tensor->rank_shapes.push_back(part.shape);
      }
    }
    store.names[saved.name] = tensor.get();
    for (const std::string& alias : saved.aliases) {
      store.names[alias] = tensor.get();
    }
    store.tensors.push_back(std::move(tensor));
  }
  return store;
}

TensorStore open_unsharded(const fs::path& path) {
  std::error_code error;
  if (!fs::is_directory(path, error)) {
    return open_single(path);
  }
  if (fs::exists(path / kSingleFile, error)) {
    return open_single(path / kSingleFile);
  }
  if (fs::exists(path / kIndexFile, error)) {
    return open_indexed(path / kIndexFile);
  }
  return open_single(only_safetensors(path));
}

void map_files(TensorStore& store) {
  for (const auto& file : store.files) {
    file->mapping = file->file.map();
  }
}

void read_part(const StoredPart& part, const Piece& wanted, IndexRange window,
               void* out, int64_t element_size, std::vector<char>& buffer) {
  RangeReader reader(part.file->file, buffer);
  for_each_overlap(part.piece, wanted, window,
                   [&](int64_t stored, int64_t local, int64_t count) {
                     reader.add(part.offset + stored * element_size,
                                static_cast<char*>(out) + local * element_size,
                                count * element_size);
                   });
  reader.flush();
}

std::optional<MappedBytes> find_mapped(std::span<const StoredPart> parts,
                                       const Piece& wanted,
                                       int64_t element_size) {
  const StoredPart* holder = nullptr;
  int64_t begin = 0;
  int64_t found = 0;
  bool in_line = true;
  for (const StoredPart& part : parts) {
    for_each_overlap(part.piece, wanted,
                     [&](int64_t stored, int64_t local, int64_t count) {
                       if (holder == nullptr) {
                         holder = &part;
                         begin = stored;
                       }
                       in_line = in_line && holder == &part &&
                                 stored == begin + found && local == found;
                       found += count;
                     });
  }
  if (holder == nullptr || holder->file->mapping == nullptr || !in_line) {
    return std::nullopt;
  }
  const int64_t offset = holder->offset + begin * element_size;
  if (offset % element_size != 0) {
    return std::nullopt;
  }
  const auto& file = holder->file->mapping;
  return MappedBytes{file, file.get() + offset};
}

void check_part(const StoredTensor& tensor, const StoredPart& part) {
  const auto element_size =
      static_cast<int64_t>(c10::elementSize(tensor.dtype));
  const int64_t numel = part.piece.numel();
  std::vector<char> bytes(static_cast<size_t>(numel * element_size));
  part.file->file.read(part.offset, bytes.data(), numel * element_size);
  check<CheckpointError>(
      tensor_digest(tensor.name, part.piece, bytes.data(), element_size) ==
          part.digest,
      part.file->file.path().string(), ": tensor ", tensor.name,
      ": its bytes do not match their digest; the file was altered");
}

}  // namespace colonnade::detail

// colonnade/checkpoint/detail/save_checkpoint.cpp
#include "colonnade/checkpoint/detail/save_checkpoint.h"

#include "colonnade/checkpoint/detail/consensus.h"
#include "colonnade/checkpoint/detail/save_files.h"
#include "colonnade/checkpoint/detail/saver.h"
#include "colonnade/checkpoint/detail/tree.h"
#include "colonnade/checkpoint/detail/writer.h"

#include <nlohmann/json.hpp>

#include <list>
#include <optional>
#include <utility>
#include <vector>

namespace colonnade::detail {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::string describe_file(const ManifestFile& file) {
  return json{file.path, file.bytes, file.header_digest}.dump();
}

ManifestFile file_from(const std::string& text) {
  const json list = json::parse(text);
  return {list[0], list[1], list[2]};
}

Manifest make_manifest(std::string id, const std::vector<std::string>& files,
                       std::vector<PlannedTensor> plan,
                       const StateDict& state) {
  Manifest manifest;
  manifest.id = std::move(id);
  for (const std::string& file : files) {
    manifest.files.push_back(file_from(file));
  }
  for (PlannedTensor& planned : plan) {
    manifest.tensors.push_back(std::move(planned.entry));
  }
  manifest.state = encode_tree(state);
  return manifest;
}

/// Files of a save that are removed unless it commits.
class SavedFiles {
 public:
  void watch(fs::path path) { guards_.emplace_back().watch(std::move(path)); }
  void keep() {
    for (FileGuard& guard : guards_) {
      guard.keep();
    }
  }

 private:
  std::list<FileGuard> guards_;
};

}  // namespace

void save_checkpoint(const StateDict& state, const fs::path& folder,
                     std::span<const Attachment> attachments) {
  const CheckpointRanks ranks = CheckpointRanks::current("save");
  together(ranks.world, [&] { check_attachments(attachments); });
  PreparedSave prepared = prepare_save(ranks, state);

  std::string id;
  std::optional<SaveClaim> claim;
  together(ranks.world, [&] {
    if (ranks.commits) {
      id = make_save_id();
      make_folder(folder);
      claim.emplace(folder, id);
    }
  });
  id = from_first(ranks, id);

  SavedFiles written;
  std::string file;
  together(ranks.world, [&] {
    if (ranks.writes) {
      file = describe_file(write_rank_file(folder, id, ranks.rank,
                                           prepared.plan, prepared.tensors));
      written.watch(folder / rank_file(ranks.rank, id));
    }
  });
  std::vector<std::string> files;
  if (ranks.writes) {
    files = gather_bytes(ranks.tensor_parallel, file);
  }
  Manifest manifest;
  together(ranks.world, [&] {
    if (ranks.commits) {
      manifest = make_manifest(id, files, std::move(prepared.plan), state);
      for (const Attachment& attachment : attachments) {
        manifest.attachments.push_back(
            write_attachment(folder, id, attachment));
        written.watch(folder / manifest.attachments.back().path);
      }
      write_manifest(folder, manifest);
    }
  });
  // From here on the manifest may name the files, whatever happens.
  written.keep();
  together(ranks.world, [&] {
    if (ranks.commits) {
      commit_manifest(folder, manifest);
      remove_leftovers(folder);
    }
  });
}

}  // namespace colonnade::detail

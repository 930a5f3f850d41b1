// colonnade/checkpoint/detail/save_files.cpp
#include "colonnade/checkpoint/detail/save_files.h"

#include "colonnade/checkpoint/detail/digest.h"
#include "colonnade/checkpoint/detail/reader.h"
#include "colonnade/core/error.h"

#include <algorithm>
#include <chrono>
#include <ctime>
#include <random>
#include <set>
#include <utility>
#include <vector>

namespace colonnade::detail {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kRankFolder = "tp_rank_";
constexpr std::string_view kSafetensors = ".safetensors";
constexpr std::string_view kClaim = ".saving";
constexpr std::string_view kTemporary = "manifest.json.";
constexpr std::string_view kAttachment = ".json";
constexpr std::string_view kIdPattern = "ddddddddTdddddd-xxxxxxxxxxxxxxxx";

bool is_digit(char c) {
  return '0' <= c && c <= '9';
}

/// Is it a name that make_save_id may have made?
bool is_save_id(std::string_view text) {
  return text.size() == kIdPattern.size() &&
         std::equal(text.begin(), text.end(), kIdPattern.begin(),
                    [](char c, char kind) {
                      return kind == 'd' ? is_digit(c)
                             : kind == 'x'
                                 ? is_digit(c) || ('a' <= c && c <= 'f')
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
         std::ranges::all_of(number, is_digit);
}

fs::path claim_path(const fs::path& folder, const std::string& id) {
  return folder / concat(id, kClaim);
}

/// The save whose claim it is; empty for any other file.
std::string claim_of(std::string_view name) {
  if (name.ends_with(FileLock::kUnlocked)) {
    name.remove_suffix(FileLock::kUnlocked.size());
  }
  return id_of(name, "", kClaim);
}

/// The save whose attachment it is; empty for any other file.
std::string attached_to(std::string_view name) {
  const size_t dot = std::min(name.find('.'), name.size() - 1);
  return is_attachment_name(name.substr(dot + 1))
             ? id_of(name, "", name.substr(dot))
             : "";
}

/// The save that wrote a file of our own naming, by its path in the folder;
/// empty for any other.
std::string save_of(const fs::path& path) {
  const std::string name = path.filename().string();
  if (path.has_parent_path()) {
    return is_rank_folder(path.parent_path().string())
               ? id_of(name, "", kSafetensors)
               : "";
  }
  for (std::string id :
       {claim_of(name), attached_to(name), id_of(name, kTemporary, "")}) {
    if (!id.empty()) {
      return id;
    }
  }
  return "";
}

/// Ids of the saves whose claims are held, or about to be.
std::set<std::string> saves_in_flight(const fs::path& folder) {
  std::set<std::string> ids;
  for (const std::string& name : list_folder(folder)) {
    const std::string id = claim_of(name);
    if (!id.empty() && (name.ends_with(FileLock::kUnlocked) ||
                        FileLock::is_held(folder / name))) {
      ids.insert(id);
    }
  }
  return ids;
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

std::string temporary_manifest(std::string_view id) {
  return concat(kTemporary, id);
}

bool is_attachment_name(std::string_view name) {
  if (!name.ends_with(kAttachment)) {
    return false;
  }
  name.remove_suffix(kAttachment.size());
  return !name.empty() && std::ranges::all_of(name, [](char c) {
    return is_digit(c) || ('a' <= c && c <= 'z') || c == '_';
  });
}

void remove_leftovers(const fs::path& folder) {
  // In this order: a save that commits meanwhile is seen by its claim or in
  // the manifest.
  std::vector<fs::path> candidates;
  for (const std::string& name : list_folder(folder)) {
    candidates.emplace_back(name);
    if (is_rank_folder(name)) {
      for (const std::string& file : list_folder(folder / name)) {
        candidates.push_back(fs::path(name) / file);
      }
    }
  }
  std::set<std::string> kept = saves_in_flight(folder);
  try {
    kept.insert(
        manifest_from_text(read_manifest_text(folder), kManifestFile).id);
  } catch (const CheckpointError&) {
    return;
  }
  for (const fs::path& path : candidates) {
    const std::string id = save_of(path);
    if (!id.empty() && !kept.contains(id)) {
      try_remove(folder / path);
    }
  }
}

void check_no_extra_files(const fs::path& folder, const Manifest& manifest) {
  std::set<std::string> named = {kManifestFile};
  for (const ManifestFile& file : manifest.files) {
    named.insert(file.path);
  }
  for (const ManifestAttachment& attachment : manifest.attachments) {
    named.insert(attachment.path);
  }
  // Before and after: a save may begin or end while the files are listed.
  std::set<std::string> in_flight = saves_in_flight(folder);
  const std::vector<std::string> files = list_files(folder);
  in_flight.merge(saves_in_flight(folder));
  for (const std::string& file : files) {
    check<CheckpointError>(
        named.contains(file) || in_flight.contains(save_of(file)),
        (folder / file).string(), ": is not named by ", kManifestFile,
        "; remove it, or save into a folder of its own");
  }
}

}  // namespace colonnade::detail

// colonnade/checkpoint/detail/save_files.h
// Which files of a folder belong to saves, by their names.
#pragma once

#include "colonnade/checkpoint/detail/file.h"
#include "colonnade/checkpoint/detail/manifest.h"
#include "colonnade/core/api.h"

#include <filesystem>
#include <string>
#include <string_view>

namespace colonnade::detail {

/// A name that no other save has: time and chance, "20260131T235959-" and 16
/// hexadecimal digits.
std::string make_save_id();

/// Says that a save is in flight: while it lives, no other save takes this
/// one's files for leftovers.
class COLONNADE_API SaveClaim : public FileLock {
 public:
  SaveClaim(const std::filesystem::path& folder, const std::string& id);
};

/// The manifest of a save that is not committed yet: "manifest.json.<id>".
std::string temporary_manifest(std::string_view id);

/// May an attachment be called so? Lower-case letters, digits and underscores,
/// then ".json": nobody else's files are called <id>.<name>.
bool is_attachment_name(std::string_view name);

/// Removes what other saves left: files of our own naming that neither the
/// manifest nor a save in flight claims. Nothing else, and nothing at all where
/// the manifest cannot be read. Never throws for a file that stays.
void remove_leftovers(const std::filesystem::path& folder);

/// Throws CheckpointError naming the first file in `folder` or below that the
/// manifest does not name: for folders that must hold one save and nothing
/// else. manifest.json itself may be there, and the files of saves in flight.
COLONNADE_API void check_no_extra_files(const std::filesystem::path& folder,
                                        const Manifest& manifest);

}  // namespace colonnade::detail

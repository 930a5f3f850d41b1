// colonnade/checkpoint/detail/attachment.h
#pragma once

#include "colonnade/checkpoint/detail/manifest.h"
#include "colonnade/core/api.h"

#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace colonnade::detail {

/// A file of a checkpoint that is no tensor, such as a traced model's graph.
/// Its name is lower-case letters, digits and underscores, then ".json".
struct Attachment {
  std::string name;
  std::string text;
};

/// InvalidArgument where a name is not of that form, or is there twice.
void check_attachments(std::span<const Attachment> attachments);

/// Writes `<id>.<name>` and makes it survive a power failure, but for its
/// place in the folder. A file that is not finished is removed again.
ManifestAttachment write_attachment(const std::filesystem::path& folder,
                                    const std::string& id,
                                    const Attachment& attachment);

/// The text of the attachment `name`. No communication.
///
/// Errors  CheckpointError names the file that is missing, cut, longer than it
///         was or altered, and the manifest that has no such attachment
COLONNADE_API std::string read_attachment(const std::filesystem::path& folder,
                                          const Manifest& manifest,
                                          std::string_view name);

}  // namespace colonnade::detail

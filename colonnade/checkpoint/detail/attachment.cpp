// colonnade/checkpoint/detail/attachment.cpp
#include "colonnade/checkpoint/detail/attachment.h"

#include "colonnade/checkpoint/detail/digest.h"
#include "colonnade/checkpoint/detail/file.h"
#include "colonnade/checkpoint/detail/save_files.h"
#include "colonnade/core/error.h"

#include <algorithm>
#include <set>

namespace colonnade::detail {
namespace {

namespace fs = std::filesystem;

std::string join_names(const Manifest& manifest) {
  std::string text;
  for (const ManifestAttachment& attachment : manifest.attachments) {
    text += (text.empty() ? "" : ", ") + attachment.name;
  }
  return text.empty() ? "none" : text;
}

}  // namespace

void check_attachments(std::span<const Attachment> attachments) {
  std::set<std::string> names;
  for (const Attachment& attachment : attachments) {
    check_arg(is_attachment_name(attachment.name), "save: the attachment \"",
              attachment.name,
              "\" is not called in lower-case letters, digits and underscores "
              "and then \".json\"");
    check_arg(names.insert(attachment.name).second, "save: the attachment \"",
              attachment.name, "\" is there twice");
  }
}

ManifestAttachment write_attachment(const fs::path& folder,
                                    const std::string& id,
                                    const Attachment& attachment) {
  const std::string& text = attachment.text;
  ManifestAttachment written{
      attachment.name, attachment_file(attachment.name, id),
      static_cast<int64_t>(text.size()), bytes_digest(text)};
  write_text(folder / written.path, text);
  return written;
}

std::string read_attachment(const fs::path& folder, const Manifest& manifest,
                            std::string_view name) {
  const auto found =
      std::ranges::find(manifest.attachments, name, &ManifestAttachment::name);
  check<CheckpointError>(found != manifest.attachments.end(),
                         (folder / kManifestFile).string(),
                         ": names no attachment \"", name,
                         "\"; its attachments are: ", join_names(manifest));
  const File file = File::open_for_reading(folder / found->path);
  const std::string subject = file.path().string();
  check_size(file, found->bytes);
  std::string text(static_cast<size_t>(found->bytes), '\0');
  file.read(0, text.data(), found->bytes);
  check<CheckpointError>(bytes_digest(text) == found->digest, subject,
                         ": its bytes do not match their digest; the file was "
                         "altered");
  return text;
}

}  // namespace colonnade::detail

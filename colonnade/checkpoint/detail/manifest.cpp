// colonnade/checkpoint/detail/manifest.cpp
#include "colonnade/checkpoint/detail/manifest.h"

#include "colonnade/checkpoint/detail/digest.h"
#include "colonnade/checkpoint/detail/safetensors.h"
#include "colonnade/core/error.h"

#include <charconv>

namespace colonnade::detail {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr const char* kFormat = "colonnade checkpoint";
constexpr int kVersion = 1;
// The text begins with these, with the digest of all that follows between.
constexpr std::string_view kDigestBegin = "{\"digest\":\"";
constexpr std::string_view kDigestEnd = "\",\n";
constexpr size_t kDigestSize = 32;
constexpr size_t kPrefixSize =
    kDigestBegin.size() + kDigestSize + kDigestEnd.size();
constexpr const char* kLayouts[] = {"replicated", "split", "per_rank"};

ordered_json to_json(const std::vector<IndexRange>& ranges) {
  ordered_json list = ordered_json::array();
  for (const IndexRange& range : ranges) {
    list.push_back({range.begin, range.end});
  }
  return list;
}

std::vector<IndexRange> ranges_from(const json& list) {
  std::vector<IndexRange> ranges;
  for (const json& range : list) {
    ranges.push_back({range.at(0).get<int64_t>(), range.at(1).get<int64_t>()});
  }
  return ranges;
}

uint64_t digest_from(const json& value) {
  const std::string text = value.get<std::string>();
  uint64_t digest = 0;
  std::from_chars(text.data(), text.data() + text.size(), digest, 16);
  return digest;
}

ordered_json to_json(const ManifestTensor& tensor) {
  ordered_json object = {
      {"name", tensor.name},
      {"dtype", dtype_name(tensor.dtype)},
      {"layout", kLayouts[static_cast<size_t>(tensor.layout)]},
      {"digest", to_hex(tensor.digest)},
  };
  if (!tensor.aliases.empty()) {
    object["aliases"] = tensor.aliases;
  }
  if (tensor.layout != Layout::kPerRank) {
    object["shape"] = tensor.shape;
  }
  if (tensor.layout == Layout::kSplit) {
    object["dim"] = tensor.shards.front().dim;
    object["group"] = tensor.group;
    ordered_json shards = ordered_json::array();
    for (const ShardSpec& spec : tensor.shards) {
      shards.push_back(
          {{"ranges", to_json(spec.ranges)}, {"local_size", spec.local_size}});
    }
    object["shards"] = std::move(shards);
  }
  ordered_json parts = ordered_json::array();
  for (const ManifestPart& part : tensor.parts) {
    ordered_json entry = {{"file", part.file}, {"digest", to_hex(part.digest)}};
    if (tensor.layout == Layout::kSplit) {
      entry["ranges"] = to_json(part.ranges);
    }
    if (tensor.layout == Layout::kPerRank) {
      entry["shape"] = part.shape;
    }
    parts.push_back(std::move(entry));
  }
  object["parts"] = std::move(parts);
  return object;
}

ManifestTensor tensor_from(const json& object, const std::string& subject) {
  ManifestTensor tensor;
  tensor.name = object.at("name").get<std::string>();
  tensor.dtype = dtype_from_name(object.at("dtype").get<std::string>(),
                                 concat(subject, ": tensor ", tensor.name));
  const std::string layout = object.at("layout").get<std::string>();
  const auto* const known = std::ranges::find(kLayouts, layout);
  check<CheckpointError>(known != std::end(kLayouts), subject, ": tensor ",
                         tensor.name, ": layout ", layout, " is not known");
  tensor.layout = static_cast<Layout>(known - std::begin(kLayouts));
  tensor.digest = digest_from(object.at("digest"));
  if (object.contains("aliases")) {
    tensor.aliases = object.at("aliases").get<std::vector<std::string>>();
  }
  if (tensor.layout != Layout::kPerRank) {
    tensor.shape = object.at("shape").get<std::vector<int64_t>>();
  }
  if (tensor.layout == Layout::kSplit) {
    const auto dim = object.at("dim").get<int64_t>();
    tensor.group = object.at("group").get<std::string>();
    const int64_t whole_size = tensor.shape.at(static_cast<size_t>(dim));
    for (const json& shard : object.at("shards")) {
      ShardSpec spec{dim, whole_size, ranges_from(shard.at("ranges")),
                     shard.at("local_size").get<int64_t>()};
      spec.validate(spec.local_shape(tensor.shape), tensor.name);
      tensor.shards.push_back(std::move(spec));
    }
  }
  for (const json& entry : object.at("parts")) {
    ManifestPart part;
    part.file = entry.at("file").get<int>();
    part.digest = digest_from(entry.at("digest"));
    if (tensor.layout == Layout::kSplit) {
      part.ranges = ranges_from(entry.at("ranges"));
    }
    if (tensor.layout == Layout::kPerRank) {
      part.shape = entry.at("shape").get<std::vector<int64_t>>();
    }
    tensor.parts.push_back(std::move(part));
  }
  return tensor;
}

ordered_json to_json(const ManifestAttachment& attachment) {
  return {{"name", attachment.name},
          {"path", attachment.path},
          {"bytes", attachment.bytes},
          {"digest", attachment.digest}};
}

ManifestAttachment attachment_from(const json& object, const std::string& id,
                                   const std::string& subject) {
  ManifestAttachment attachment{object.at("name").get<std::string>(),
                                object.at("path").get<std::string>(),
                                object.at("bytes").get<int64_t>(),
                                object.at("digest").get<std::string>()};
  check<CheckpointError>(
      attachment.path == attachment_file(attachment.name, id) &&
          attachment.path.find('/') == std::string::npos,
      subject, ": names an attachment ", attachment.path, " of no save");
  return attachment;
}

Manifest manifest_from(const json& object, const std::string& subject) {
  check<CheckpointError>(object.at("format") == kFormat, subject,
                         ": is not a checkpoint of this library");
  const int version = object.at("version").get<int>();
  check<CheckpointError>(version == kVersion, subject, ": has version ",
                         version, " of the format; this library reads version ",
                         kVersion);
  Manifest manifest;
  manifest.id = object.at("id").get<std::string>();
  for (const json& entry : object.at("files")) {
    manifest.files.push_back({entry.at("path").get<std::string>(),
                              entry.at("bytes").get<int64_t>(),
                              entry.at("header_digest").get<std::string>()});
    const size_t rank = manifest.files.size() - 1;
    check<CheckpointError>(manifest.files.back().path ==
                               rank_file(static_cast<int>(rank), manifest.id),
                           subject, ": names a file ",
                           manifest.files.back().path, " of no save");
  }
  for (const json& entry : object.value("attachments", json::array())) {
    manifest.attachments.push_back(
        attachment_from(entry, manifest.id, subject));
  }
  for (const json& entry : object.at("tensors")) {
    manifest.tensors.push_back(tensor_from(entry, subject));
    const ManifestTensor& tensor = manifest.tensors.back();
    check<CheckpointError>(tensor.layout != Layout::kSplit ||
                               tensor.shards.size() == manifest.files.size(),
                           subject, ": tensor ", tensor.name, ": has ",
                           tensor.shards.size(), " shards of ",
                           manifest.files.size(), " ranks");
    for (const ManifestPart& part : tensor.parts) {
      check<CheckpointError>(
          0 <= part.file && part.file < manifest.tensor_parallel_size(),
          subject, ": tensor ", tensor.name, ": is in a file ", part.file,
          " of ", manifest.files.size());
    }
  }
  manifest.state = object.at("state");
  return manifest;
}

}  // namespace

std::string to_text(const Manifest& manifest) {
  ordered_json files = ordered_json::array();
  for (const ManifestFile& file : manifest.files) {
    files.push_back({{"path", file.path},
                     {"bytes", file.bytes},
                     {"header_digest", file.header_digest}});
  }
  std::string attachments;
  for (const ManifestAttachment& attachment : manifest.attachments) {
    attachments += concat(attachments.empty() ? ",\n\"attachments\":[" : ",",
                          to_json(attachment).dump());
  }
  attachments += attachments.empty() ? "" : "]";
  // One line a tensor: people read and compare these files.
  std::string tensors;
  for (const ManifestTensor& tensor : manifest.tensors) {
    tensors += (tensors.empty() ? "\n" : ",\n") + to_json(tensor).dump();
  }
  const std::string body =
      concat("\"format\":", json(kFormat).dump(), ",\n\"version\":", kVersion,
             ",\n\"id\":", json(manifest.id).dump(),
             ",\n\"files\":", files.dump(), attachments, ",\n\"tensors\":[",
             tensors, "],\n\"state\":", manifest.state.dump(), "}\n");
  return concat(kDigestBegin, bytes_digest(body), kDigestEnd, body);
}

Manifest manifest_from_text(const std::string& text,
                            const std::string& subject) {
  check<CheckpointError>(text.size() >= kPrefixSize, subject, ": has ",
                         text.size(), " bytes, too few; it was cut");
  const std::string body = text.substr(kPrefixSize);
  check<CheckpointError>(
      text.substr(0, kPrefixSize) ==
          concat(kDigestBegin, bytes_digest(body), kDigestEnd),
      subject, ": its bytes do not match its digest; it was cut or altered");
  const json object = json::parse(text, nullptr, /*allow_exceptions=*/false);
  try {
    return manifest_from(object, subject);
  } catch (const CheckpointError&) {
    throw;
  } catch (const std::exception& error) {
    throw CheckpointError(
        concat(subject, ": is not a manifest: ", error.what()));
  }
}

std::string rank_folder(int rank) {
  return concat("tp_rank_", rank);
}

std::string rank_file(int rank, const std::string& id) {
  return concat(rank_folder(rank), "/", id, ".safetensors");
}

std::string attachment_file(std::string_view name, std::string_view id) {
  return concat(id, ".", name);
}

}  // namespace colonnade::detail

// colonnade/checkpoint/detail/save_checkpoint.h
#pragma once

#include "colonnade/checkpoint/detail/attachment.h"
#include "colonnade/checkpoint/state_dict.h"
#include "colonnade/core/api.h"

#include <filesystem>
#include <span>

namespace colonnade::detail {

/// parallel_layers::save, with further files that the manifest names and the
/// same rename commits. Collective; the attachments written are those of the
/// rank that commits.
///
/// Errors  as parallel_layers::save; InvalidArgument for an attachment's name
COLONNADE_API void save_checkpoint(
    const StateDict& state, const std::filesystem::path& folder,
    std::span<const Attachment> attachments = {});

}  // namespace colonnade::detail

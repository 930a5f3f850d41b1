#pragma once

#include "colonnade/core/api.h"

#include <string>

namespace colonnade {

/// Writes the last calls of every group of this rank's context to `path`, for
/// people to find out who called what: the format of PyTorch's flight recorder,
/// whose analyser (`torchfrtrace`, torch.distributed.flight_recorder) takes a
/// folder with a file a rank, named with a common prefix and the rank.
///
/// Errors  CommError where the file cannot be written
COLONNADE_API void dump_calls(const std::string& path);

}  // namespace colonnade

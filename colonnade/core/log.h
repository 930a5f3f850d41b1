// colonnade/core/log.h
#pragma once

#include "colonnade/core/api.h"

#include <functional>
#include <string_view>

namespace colonnade {

enum class LogLevel { kInfo, kWarning };

/// Receives each line the library has to say. Called from any rank's thread,
/// one call at a time.
using LogSink = std::function<void(LogLevel, std::string_view)>;

/// Replaces the sink and returns the old one. The default sink drops
/// everything: the library never prints.
COLONNADE_API LogSink set_log_sink(LogSink sink);

COLONNADE_API void log(LogLevel level, std::string_view line);

}  // namespace colonnade

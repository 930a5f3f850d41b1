// colonnade/core/log.cpp
#include "colonnade/core/log.h"

#include <mutex>
#include <utility>

namespace colonnade {
namespace {

std::mutex sink_mutex;

LogSink& current_sink() {
  static LogSink sink;
  return sink;
}

}  // namespace

LogSink set_log_sink(LogSink sink) {
  std::lock_guard lock(sink_mutex);
  return std::exchange(current_sink(), std::move(sink));
}

void log(LogLevel level, std::string_view line) {
  std::lock_guard lock(sink_mutex);
  if (current_sink()) {
    current_sink()(level, line);
  }
}

}  // namespace colonnade

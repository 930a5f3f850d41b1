// colonnade/launch/environment_settings.cpp
#include "colonnade/core/settings.h"

#include <cstdlib>
#include <string>

namespace colonnade {
namespace {

/// Fills settings() as the library is loaded, so that programs that start no
/// ranks have them too.
[[maybe_unused]] const bool filled = [] {
  const auto fill = [](std::string& setting, const char* variable) {
    if (const char* const value = std::getenv(variable)) {
      setting = value;
    }
  };
  fill(settings().matmul_engine, "COLONNADE_MATMUL");
  fill(settings().call_dump, "COLONNADE_CALL_DUMP");
  return true;
}();

}  // namespace
}  // namespace colonnade

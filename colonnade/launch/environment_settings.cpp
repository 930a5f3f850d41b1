// colonnade/launch/environment_settings.cpp
#include "colonnade/core/settings.h"

#include <cstdlib>

namespace colonnade {
namespace {

/// Fills settings() as the library is loaded, so that programs that start no
/// ranks have them too.
[[maybe_unused]] const bool filled = [] {
  if (const char* const engine = std::getenv("COLONNADE_MATMUL")) {
    settings().matmul_engine = engine;
  }
  return true;
}();

}  // namespace
}  // namespace colonnade

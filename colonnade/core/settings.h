// colonnade/core/settings.h
#pragma once

#include "colonnade/core/api.h"

#include <string>

namespace colonnade {

/// What the user says about the whole process. launch, which alone reads the
/// environment, fills it in as the library is loaded.
struct Settings {
  // Empty where the variable is not set.
  std::string matmul_engine;  ///< COLONNADE_MATMUL
  /// COLONNADE_CALL_DUMP: a rank that fails writes its last calls to the file
  /// of this name and its number.
  std::string call_dump;
};

/// The process's settings. Each is read where it is first needed; change one
/// before that, and before there are ranks.
COLONNADE_API Settings& settings();

}  // namespace colonnade

// colonnade/core/version.h
#pragma once

#include "colonnade/core/api.h"

/// The version of these headers; the build and the package read it here.
#define COLONNADE_VERSION_MAJOR 0
#define COLONNADE_VERSION_MINOR 1
#define COLONNADE_VERSION_PATCH 0

namespace colonnade {

/// The version of the library in use, "major.minor.patch". Differs from the
/// macros where a program runs with another library than it was compiled for.
COLONNADE_API const char* version();

}  // namespace colonnade

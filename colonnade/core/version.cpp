// colonnade/core/version.cpp
#include "colonnade/core/version.h"

#define COLONNADE_TEXT(x) #x
#define COLONNADE_VERSION_TEXT(major, minor, patch) \
  COLONNADE_TEXT(major)                             \
  "." COLONNADE_TEXT(minor) "." COLONNADE_TEXT(patch)

namespace colonnade {

const char* version() {
  return COLONNADE_VERSION_TEXT(COLONNADE_VERSION_MAJOR,
                                COLONNADE_VERSION_MINOR,
                                COLONNADE_VERSION_PATCH);
}

}  // namespace colonnade

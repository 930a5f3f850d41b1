// colonnade/core/settings.cpp
#include "colonnade/core/settings.h"

namespace colonnade {

Settings& settings() {
  static Settings the_settings;
  return the_settings;
}

}  // namespace colonnade

// cli/command.cpp
#include "cli/command.h"

namespace colonnade::cli {

LaunchOptions threads(int count) {
  LaunchOptions options;
  options.threads = count;
  return options;
}

}  // namespace colonnade::cli

// cli/command.cpp
#include "cli/command.h"

namespace colonnade::cli {

LaunchOptions threads(int count, const std::string& backend) {
  LaunchOptions options;
  options.threads = count;
  options.backend = backend;
  return options;
}

}  // namespace colonnade::cli

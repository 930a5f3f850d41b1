// tests/testing/shell.h
#pragma once

#include <array>
#include <cstddef>
#include <cstdio>
#include <string>

namespace colonnade {

struct ShellResult {
  bool good;        ///< Whether the command ended with 0.
  std::string out;  ///< Its standard output and error.
};

/// Runs a command in the shell, to its end.
inline ShellResult shell(const std::string& command) {
  FILE* const pipe = popen((command + " 2>&1").c_str(), "r");
  if (pipe == nullptr) {
    return {false, "no pipe to be had"};
  }
  std::string out;
  std::array<char, 4096> part{};
  while (const size_t n = fread(part.data(), 1, part.size(), pipe)) {
    out.append(part.data(), n);
  }
  return {pclose(pipe) == 0, out};
}

}  // namespace colonnade

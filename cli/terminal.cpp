// cli/terminal.cpp
#include "cli/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>

namespace colonnade::cli {

bool stdout_is_terminal() {
  return isatty(STDOUT_FILENO) == 1;
}

int terminal_columns() {
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
    return size.ws_col;
  }
  return 80;
}

void print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

void print_error(const std::string& line) {
  std::fprintf(stderr, "%s\n", line.c_str());
}

}  // namespace colonnade::cli

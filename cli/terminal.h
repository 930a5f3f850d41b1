// cli/terminal.h
#pragma once

#include <string>

namespace colonnade::cli {

bool stdout_is_terminal();
int terminal_columns();  ///< 80 where there is no terminal.

/// Writes to standard output and flushes it.
void print(const std::string& text);

/// One line on standard error.
void print_error(const std::string& line);

}  // namespace colonnade::cli

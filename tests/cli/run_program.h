// tests/cli/run_program.h
#pragma once

#include "tests/testing/temporary_folder.h"

#include <sys/types.h>

#include <string>
#include <vector>

namespace colonnade {

struct ProgramResult {
  int exit_code;
  std::string out;
  std::string err;
};

/// The program `colonnade` of this build, running with its output in files.
class RunningProgram {
 public:
  explicit RunningProgram(const std::vector<std::string>& arguments);
  RunningProgram(const RunningProgram&) = delete;
  RunningProgram& operator=(const RunningProgram&) = delete;
  ~RunningProgram();

  /// Waits, up to a minute, until standard output has `text`.
  bool wait_for_output(const std::string& text) const;
  void send(int signal) const;
  ProgramResult finish();

 private:
  TemporaryFolder folder_;
  pid_t process_;
};

/// Runs `colonnade ARGUMENTS…` to its end.
ProgramResult run_program(const std::vector<std::string>& arguments);

}  // namespace colonnade

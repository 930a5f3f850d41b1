// tests/cli/run_program.h
#pragma once

#include "tests/testing/temporary_folder.h"

#include <sys/types.h>

#include <filesystem>
#include <string>
#include <vector>

namespace colonnade {

struct ProgramResult {
  int exit_code;
  std::string out;
  std::string err;
};

/// A program of this build, running with its input and output in files.
class RunningProgram {
 public:
  /// The program `colonnade`.
  explicit RunningProgram(const std::vector<std::string>& arguments);
  /// program  from the build's root, as "examples/serve"
  RunningProgram(const std::string& program,
                 const std::vector<std::string>& arguments,
                 const std::string& input);
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

/// Its standard output; a failure of the test unless it ends with 0 and is
/// quiet on standard error.
std::string output_of(const std::vector<std::string>& arguments);

/// Whether this build has it: examples can be left out.
bool example_exists(const std::string& name);

/// Runs an example to its end.
ProgramResult run_example(const std::string& name,
                          const std::vector<std::string>& arguments,
                          const std::string& input);

std::string read_file(const std::filesystem::path& file);

}  // namespace colonnade

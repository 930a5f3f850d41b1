// tests/cli/run_program.cpp
#include "tests/cli/run_program.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <thread>

namespace colonnade {
namespace {

namespace fs = std::filesystem;

/// Of a program of this build: the test is build/…/tests/cli/cli_tests.
std::string path_of(const std::string& program) {
  const fs::path tests = fs::read_symlink("/proc/self/exe").parent_path();
  return tests / "../.." / program;
}

}  // namespace

std::string read_file(const fs::path& file) {
  std::ostringstream text;
  text << std::ifstream(file).rdbuf();
  return text.str();
}

RunningProgram::RunningProgram(const std::vector<std::string>& arguments)
    : RunningProgram("cli/colonnade", arguments, "") {}

RunningProgram::RunningProgram(const std::string& program,
                               const std::vector<std::string>& arguments,
                               const std::string& input) {
  std::string path = path_of(program);
  std::vector<char*> argv = {path.data()};
  std::vector<std::string> copies = arguments;
  for (std::string& argument : copies) {
    argv.push_back(argument.data());
  }
  argv.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(
      &actions, STDIN_FILENO, folder_.write("in", input).c_str(), O_RDONLY, 0);
  constexpr int kFlags = O_WRONLY | O_CREAT | O_TRUNC;
  posix_spawn_file_actions_addopen(
      &actions, STDOUT_FILENO, (folder_.path() / "out").c_str(), kFlags, 0600);
  posix_spawn_file_actions_addopen(
      &actions, STDERR_FILENO, (folder_.path() / "err").c_str(), kFlags, 0600);
  const int error = posix_spawn(&process_, path.c_str(), &actions, nullptr,
                                argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) {
    throw std::runtime_error("cannot run " + path);
  }
}

RunningProgram::~RunningProgram() {
  if (process_ > 0) {
    kill(process_, SIGKILL);
    waitpid(process_, nullptr, 0);
  }
}

bool RunningProgram::wait_for_output(const std::string& text) const {
  for (int i = 0; i < 3000; ++i) {
    if (read_file(folder_.path() / "out").find(text) != std::string::npos) {
      return true;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return false;
}

void RunningProgram::send(int signal) const {
  kill(process_, signal);
}

ProgramResult RunningProgram::finish() {
  int status = 0;
  waitpid(process_, &status, 0);
  process_ = -1;
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status),
          read_file(folder_.path() / "out"), read_file(folder_.path() / "err")};
}

ProgramResult run_program(const std::vector<std::string>& arguments) {
  return RunningProgram(arguments).finish();
}

std::string output_of(const std::vector<std::string>& arguments) {
  const ProgramResult result = run_program(arguments);
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.err, "");
  return result.out;
}

bool example_exists(const std::string& name) {
  return fs::exists(path_of("examples/" + name));
}

ProgramResult run_example(const std::string& name,
                          const std::vector<std::string>& arguments,
                          const std::string& input) {
  return RunningProgram("examples/" + name, arguments, input).finish();
}

}  // namespace colonnade

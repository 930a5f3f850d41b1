// tests/cli/run_program.cpp
#include "tests/cli/run_program.h"

#include <fcntl.h>
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

/// build/…/tests/cli/cli_tests runs build/…/cli/colonnade.
std::string program_path() {
  const fs::path tests = fs::read_symlink("/proc/self/exe").parent_path();
  return tests / "../../cli/colonnade";
}

std::string read(const std::string& file) {
  std::ostringstream text;
  text << std::ifstream(file).rdbuf();
  return text.str();
}

}  // namespace

RunningProgram::RunningProgram(const std::vector<std::string>& arguments) {
  std::string path = program_path();
  std::vector<char*> argv = {path.data()};
  std::vector<std::string> copies = arguments;
  for (std::string& argument : copies) {
    argv.push_back(argument.data());
  }
  argv.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
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
    if (read(folder_.path() / "out").find(text) != std::string::npos) {
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
          read(folder_.path() / "out"), read(folder_.path() / "err")};
}

ProgramResult run_program(const std::vector<std::string>& arguments) {
  return RunningProgram(arguments).finish();
}

}  // namespace colonnade

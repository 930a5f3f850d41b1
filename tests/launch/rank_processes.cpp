// tests/launch/rank_processes.cpp
#include "tests/launch/rank_processes.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <thread>

namespace colonnade {
namespace {

namespace fs = std::filesystem;

/// Of the launcher, if any, that this process has itself.
bool is_launchers(const std::string& variable) {
  for (const char* const prefix :
       {"COLONNADE_", "OMPI_", "PMI_", "PMIX_", "MPI_", "SLURM_", "RANK=",
        "WORLD_SIZE=", "LOCAL_", "MASTER_", "TORCHELASTIC_", "TMPDIR="}) {
    if (variable.starts_with(prefix)) {
      return true;
    }
  }
  return false;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> result;
  for (std::string& text : texts) {
    result.push_back(text.data());
  }
  result.push_back(nullptr);
  return result;
}

}  // namespace

RankProcesses::~RankProcesses() {
  for (const pid_t process : processes_) {
    if (process > 0) {
      kill(process, SIGKILL);
      waitpid(process, nullptr, 0);
    }
  }
}

void RankProcesses::start(const Variables& variables,
                          const std::vector<std::string>& arguments) {
  std::vector<std::string> words = {
      fs::read_symlink("/proc/self/exe").parent_path() / "rank_program"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<std::string> settings;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (!is_launchers(*variable)) {
      settings.emplace_back(*variable);
    }
  }
  for (const auto& [name, value] : variables) {
    settings.push_back(name + '=' + value);
  }
  // Of their own, so that a test sees what the ranks leave there. The first
  // setting of a name counts.
  settings.push_back("TMPDIR=" + folder_.path().string());

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  const fs::path file =
      folder_.path() / ("out" + std::to_string(processes_.size()));
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, file.c_str(),
                                   O_WRONLY | O_CREAT | O_APPEND, 0600);
  posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  pid_t process = -1;
  const int error =
      posix_spawn(&process, words[0].c_str(), &actions, nullptr,
                  pointers(words).data(), pointers(settings).data());
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) {
    throw std::runtime_error("cannot run " + words[0]);
  }
  processes_.push_back(process);
  started_.push_back(process);
}

std::string RankProcesses::output(size_t i) const {
  std::ostringstream text;
  text << std::ifstream(folder_.path() / ("out" + std::to_string(i))).rdbuf();
  return text.str();
}

bool RankProcesses::wait_for(size_t i, const std::string& text) const {
  for (int look = 0; look < 6000; ++look) {
    if (output(i).find(text) != std::string::npos) {
      return true;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

void RankProcesses::signal(size_t i, int number) const {
  kill(processes_[i], number);
}

std::vector<RankResult> RankProcesses::finish(std::chrono::seconds limit) {
  const auto end = std::chrono::steady_clock::now() + limit;
  std::vector<RankResult> results;
  for (size_t i = 0; i < processes_.size(); ++i) {
    int status = 0;
    while (waitpid(processes_[i], &status, WNOHANG) == 0) {
      if (std::chrono::steady_clock::now() > end) {
        kill(processes_[i], SIGKILL);
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    processes_[i] = -1;
    results.push_back(
        {WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status),
         output(i)});
  }
  return results;
}

}  // namespace colonnade

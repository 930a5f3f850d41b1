// tests/launch/rank_processes.h
#pragma once

#include "tests/testing/temporary_folder.h"

#include <sys/types.h>

#include <chrono>
#include <map>
#include <string>
#include <vector>

namespace colonnade {

using Variables = std::map<std::string, std::string>;

struct RankResult {
  int exit_code;  ///< Minus the signal, where one ended it.
  std::string out;
};

/// Processes of tests/launch/rank_program.cpp, with environments as a launcher
/// would make them.
class RankProcesses {
 public:
  RankProcesses() = default;
  ~RankProcesses();  ///< Ends what still runs.
  RankProcesses(const RankProcesses&) = delete;
  RankProcesses& operator=(const RankProcesses&) = delete;

  /// Starts `rank_program ARGUMENTS…` with `variables` beside those of this
  /// process. Standard output and error go to one file.
  void start(const Variables& variables,
             const std::vector<std::string>& arguments);
  /// Waits, up to a minute, until rank `i` has written `text`.
  bool wait_for(size_t i, const std::string& text) const;
  void signal(size_t i, int number) const;
  pid_t pid(size_t i) const { return started_[i]; }
  /// What became of each. Those that run for longer than `limit` are killed.
  std::vector<RankResult> finish(
      std::chrono::seconds limit = std::chrono::seconds(45));

  const TemporaryFolder& folder() const { return folder_; }

 private:
  std::string output(size_t i) const;

  TemporaryFolder folder_;
  std::vector<pid_t> processes_;  // -1 where it has ended
  std::vector<pid_t> started_;
};

}  // namespace colonnade

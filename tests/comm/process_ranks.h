// tests/comm/process_ranks.h
#pragma once

#include "colonnade/comm/rendezvous.h"
#include "colonnade/comm/world.h"
#include "tests/testing/temporary_folder.h"

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace colonnade {

/// Ranks that are processes, of the backend `shm`: forks of this one, which
/// therefore must not have used torch's threads.
class ProcessRanks {
 public:
  /// body     what each rank does; what it throws, and whether it fails an
  ///          expectation, is known after `wait`
  /// meet_at  null for a folder of this object
  ProcessRanks(int size, std::function<void(World&)> body,
               std::chrono::milliseconds timeout = std::chrono::seconds(20),
               std::shared_ptr<Rendezvous> meet_at = nullptr);
  ~ProcessRanks();
  ProcessRanks(const ProcessRanks&) = delete;
  ProcessRanks& operator=(const ProcessRanks&) = delete;

  pid_t pid(int rank) const { return pids_[static_cast<size_t>(rank)]; }
  void signal(int rank, int number) const;
  /// Returns when `body` runs on all ranks.
  void wait_until_they_run() const;

  /// Expects all ranks to end within `limit`, and those that were not killed to
  /// end well. Returns the text of the CommError of each; empty where it threw
  /// none.
  std::vector<std::string> wait(
      std::chrono::milliseconds limit = std::chrono::seconds(60));

 private:
  TemporaryFolder folder_;
  std::shared_ptr<Rendezvous> meet_at_;
  std::vector<pid_t> pids_;
  std::vector<bool> ended_;
};

/// `ProcessRanks(...).wait()`.
std::vector<std::string> run_processes(
    int size, std::function<void(World&)> body,
    std::chrono::milliseconds timeout = std::chrono::seconds(20));

/// A new group of all ranks of `world`.
GroupPtr group_of_all(World& world, std::string name = "all");

}  // namespace colonnade

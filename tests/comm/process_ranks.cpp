// tests/comm/process_ranks.cpp
#include "tests/comm/process_ranks.h"

#include "colonnade/comm/backend.h"
#include "colonnade/core/error.h"
#include "tests/testing/file_rendezvous.h"

#include <ATen/Parallel.h>

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <exception>
#include <memory>
#include <numeric>
#include <thread>
#include <utility>

namespace colonnade {
namespace {

std::string file_of(const char* what, int rank) {
  return concat(what, ".", rank);
}

/// Whether all went well.
bool run(const TemporaryFolder& folder, const ProcessPlace& place,
         const std::function<void(World&)>& body) {
  at::set_num_threads(1);
  WorldPtr world;
  try {
    world = find_backend("shm").make_process_world(place);
    folder.write(file_of("runs", place.rank), "");
    body(*world);
    world->leave();
  } catch (const CommError& error) {
    folder.write(file_of("error", place.rank), error.what());
  } catch (const std::exception& error) {
    if (world == nullptr) {
      ADD_FAILURE() << error.what();
    } else {
      world->abort(error.what());
    }
  }
  return !testing::Test::HasFailure();
}

}  // namespace

ProcessRanks::ProcessRanks(int size, std::function<void(World&)> body,
                           std::chrono::milliseconds timeout,
                           std::shared_ptr<Rendezvous> meet_at)
    : meet_at_(std::move(meet_at)), ended_(static_cast<size_t>(size)) {
  if (meet_at_ == nullptr) {
    meet_at_ = std::make_shared<FileRendezvous>(folder_.path());
  }
  const pid_t parent = getpid();
  for (int rank = 0; rank < size; ++rank) {
    const pid_t pid = fork();
    if (pid == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      const bool good =
          getppid() == parent &&
          run(folder_, {rank, size, "here", meet_at_, timeout}, body);
      std::fflush(nullptr);
      _exit(good ? 0 : 1);
    }
    pids_.push_back(pid);
  }
}

ProcessRanks::~ProcessRanks() {
  for (size_t rank = 0; rank < pids_.size(); ++rank) {
    if (!ended_[rank]) {
      kill(pids_[rank], SIGKILL);
      waitpid(pids_[rank], nullptr, 0);
    }
  }
}

void ProcessRanks::signal(int rank, int number) const {
  kill(pid(rank), number);
}

void ProcessRanks::wait_until_they_run() const {
  FileRendezvous files(folder_.path());
  for (size_t rank = 0; rank < pids_.size(); ++rank) {
    files.get(file_of("runs", static_cast<int>(rank)),
              std::chrono::seconds(60));
  }
}

std::vector<std::string> ProcessRanks::wait(std::chrono::milliseconds limit) {
  const auto end = std::chrono::steady_clock::now() + limit;
  std::vector<std::string> texts;
  for (size_t rank = 0; rank < pids_.size(); ++rank) {
    int status = 0;
    while (!ended_[rank] && std::chrono::steady_clock::now() < end) {
      ended_[rank] = waitpid(pids_[rank], &status, WNOHANG) == pids_[rank];
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    EXPECT_TRUE(ended_[rank]) << "rank " << rank << " hangs";
    EXPECT_TRUE(!ended_[rank] || (WIFEXITED(status) && status == 0) ||
                (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL))
        << "rank " << rank << " ended with status " << status;
  }
  std::map<std::string, std::string> files = folder_.files();
  for (size_t rank = 0; rank < pids_.size(); ++rank) {
    texts.push_back(files[file_of("error", static_cast<int>(rank))]);
  }
  return texts;
}

std::vector<std::string> run_processes(int size,
                                       std::function<void(World&)> body,
                                       std::chrono::milliseconds timeout) {
  return ProcessRanks(size, std::move(body), timeout).wait();
}

GroupPtr group_of_all(World& world, std::string name) {
  std::vector<int64_t> ranks(static_cast<size_t>(world.size()));
  std::iota(ranks.begin(), ranks.end(), 0);
  return world.make_group(std::move(name), std::move(ranks));
}

}  // namespace colonnade

// benchmarks/process_pair.h
#pragma once

#include "colonnade/comm/world.h"

#include <functional>
#include <string>

// What benchmarks that mpirun starts as two processes share.

namespace colonnade::bench {

inline constexpr int kRanks = 2;

/// The larger of the two processes' values, on both.
double slowest_process(double value);

/// A new folder, the same on both. It is removed when both let go of it: keep
/// it longer than what uses it.
class SharedFolder {
 public:
  SharedFolder();
  ~SharedFolder();
  SharedFolder(const SharedFolder&) = delete;
  SharedFolder& operator=(const SharedFolder&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// The world of the two over a backend; they meet in `folder`.
WorldPtr world_of(const char* backend, const std::string& folder);

/// Runs `body` on two thread ranks of the first process, on the cores of the
/// host, while the second one sleeps.
void on_threads_of_first_process(const std::function<void(int rank)>& body);

}  // namespace colonnade::bench

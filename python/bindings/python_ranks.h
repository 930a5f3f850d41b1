// python/bindings/python_ranks.h
#pragma once

#include "colonnade/comm/world.h"
#include "colonnade/core/api.h"

#include <functional>
#include <mutex>
#include <vector>

namespace colonnade::python {

/// Whether the calling thread is a rank that Python code runs on.
bool inside_python_rank();

/// Makes the calling thread such a rank, until it is destroyed.
class PythonRankScope {
 public:
  PythonRankScope();
  ~PythonRankScope();
  PythonRankScope(const PythonRankScope&) = delete;
  PythonRankScope& operator=(const PythonRankScope&) = delete;

 private:
  bool previous_;
};

/// The thread ranks of a call from Python: what it takes to stop them.
class PythonRanks {
 public:
  /// Runs `body` as a rank, without the interpreter; the calling thread can be
  /// interrupted while it does.
  void run_rank(const std::function<void()>& body);

  /// Raises KeyboardInterrupt in the Python code of each rank, and ends their
  /// worlds, so that those that wait for each other hear of it. Called with
  /// the interpreter held.
  void interrupt();

 private:
  struct Rank {
    unsigned long thread;
    WorldPtr world;
  };
  std::mutex mutex_;
  std::vector<Rank> ranks_;
  bool interrupted_ = false;
};

/// Runs `start`, which waits for ranks, on a thread of its own, while the
/// caller waits for it and for signals: each Ctrl-C calls `ranks.interrupt()`,
/// and the first is raised when `start` has come back. Grad mode and the like
/// are the caller's there. Called without the interpreter held.
void run_interruptibly(PythonRanks& ranks, const std::function<void()>& start);

}  // namespace colonnade::python

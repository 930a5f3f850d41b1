// colonnade/launch/thread_ranks.cpp
#include "colonnade/comm/backend.h"
#include "colonnade/comm/rank_context.h"
#include "colonnade/comm/world.h"
#include "colonnade/core/cores.h"
#include "colonnade/core/error.h"
#include "colonnade/launch/launch.h"
#include "colonnade/random/rank_random.h"

#include <ATen/Parallel.h>
#include <ATen/ThreadLocalState.h>

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <exception>
#include <memory>
#include <mutex>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace colonnade::detail {
namespace {

thread_local bool inside_rank = false;

/// Sets how many threads one op of torch uses, and puts it back. What is set
/// before the ranks' threads start is what each of them begins with.
class IntraOpThreads {
 public:
  explicit IntraOpThreads(int n) : previous_(at::get_num_threads()) {
    at::set_num_threads(n);
  }
  ~IntraOpThreads() { at::set_num_threads(previous_); }
  IntraOpThreads(const IntraOpThreads&) = delete;
  IntraOpThreads& operator=(const IntraOpThreads&) = delete;

 private:
  int previous_;
};

/// The first error of a run.
class FirstError {
 public:
  void set(std::exception_ptr error) {
    std::lock_guard lock(mutex_);
    if (error_ == nullptr) {
      error_ = std::move(error);
    }
  }
  void rethrow_if_set() const {
    if (error_ != nullptr) {
      std::rethrow_exception(error_);
    }
  }

 private:
  std::mutex mutex_;
  std::exception_ptr error_;
};

/// Pins the calling thread to the `rank`-th of `n` equal shares of `cores`.
/// Where the kernel refuses, it stays where it was: slower at worst.
void pin(int rank, int n, const std::vector<int>& cores) {
  const size_t share = cores.size() / static_cast<size_t>(n);
  cpu_set_t set;
  CPU_ZERO(&set);
  for (size_t i = 0; i < share; ++i) {
    CPU_SET(cores[static_cast<size_t>(rank) * share + i], &set);
  }
  pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
}

void run_rank(int rank, const WorldPtr& world,
              const std::function<void(int)>& body, FirstError& first_error) {
  inside_rank = true;
  // An error is recorded before the others hear of it: theirs come later.
  const auto fail = [&](std::string_view message) {
    first_error.set(std::current_exception());
    world->abort(message);
  };
  try {
    const RankContextScope context(std::make_shared<RankContext>(world));
    const RankRandomScope random;
    body(rank);
    world->leave();
  } catch (const std::exception& error) {
    fail(error.what());
  } catch (...) {
    fail("an exception that is no std::exception");
  }
}

const Backend& local_backend(int n, const std::string& name) {
  const Backend& backend = find_backend(!name.empty() ? name
                                        : n == 1      ? "self"
                                                      : "threads");
  check_arg(backend.built_in && backend.why_not().empty(),
            "run_ranks: the backend ", backend.name,
            " cannot be used: ", backend.why_not());
  check_arg(backend.make_local_worlds != nullptr, "run_ranks: the ranks of ",
            backend.name, " are processes; use launch");
  return backend;
}

}  // namespace

void run_thread_ranks(int n, const std::function<void(int)>& body,
                      const LaunchOptions& options) {
  check_arg(n >= 1, "run_ranks: the number of ranks is ", n,
            "; it must be at least 1");
  check_arg(!inside_rank,
            "run_ranks: called inside a rank; a rank cannot have ranks of its "
            "own, so call it before or after the outer run_ranks");
  const std::vector<WorldPtr> worlds =
      local_backend(n, options.backend).make_local_worlds(n, options.timeout);

  const std::vector<int> cores = allowed_cores();
  const bool fits = n <= usable_cores();
  const IntraOpThreads intra_op(std::max(1, usable_cores() / n));
  const at::ThreadLocalState caller_state;
  FirstError first_error;
  std::vector<std::thread> threads;
  const auto join_all = [&] {
    for (std::thread& thread : threads) {
      thread.join();
    }
  };
  try {
    for (int rank = 0; rank < n; ++rank) {
      threads.emplace_back([&, rank] {
        const at::ThreadLocalStateGuard state(caller_state);
        if (fits && options.pin) {
          pin(rank, n, cores);
        }
        at::init_num_threads();
        run_rank(rank, worlds[static_cast<size_t>(rank)], body, first_error);
      });
    }
  } catch (const std::exception& error) {  // no thread to be had
    worlds[threads.size()]->abort(error.what());
    join_all();
    throw;
  }
  join_all();
  first_error.rethrow_if_set();
}

}  // namespace colonnade::detail

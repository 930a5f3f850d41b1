// python/bindings/python_ranks.cpp
#include "python_ranks.h"

#include "colonnade/comm/rank_context.h"

#include <ATen/ThreadLocalState.h>
#include <torch/csrc/utils/pybind.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <future>
#include <optional>
#include <thread>

namespace colonnade::python {
namespace {

namespace py = pybind11;

/// How long Ctrl-C may wait to be seen.
constexpr std::chrono::milliseconds kSignalInterval(50);

thread_local bool is_python_rank = false;

}  // namespace

bool inside_python_rank() {
  return is_python_rank;
}

PythonRankScope::PythonRankScope() : previous_(is_python_rank) {
  is_python_rank = true;
}

PythonRankScope::~PythonRankScope() {
  is_python_rank = previous_;
}

void PythonRanks::run_rank(const std::function<void()>& body) {
  const PythonRankScope scope;
  const unsigned long self = PyThread_get_thread_ident();
  {
    const std::lock_guard lock(mutex_);
    if (interrupted_) {
      return;
    }
    ranks_.push_back({self, RankContext::current()->world()});
  }
  const auto forget = [&] {
    const std::lock_guard lock(mutex_);
    std::erase_if(ranks_, [&](const Rank& r) { return r.thread == self; });
  };
  try {
    body();
  } catch (...) {
    forget();
    throw;
  }
  forget();
}

void PythonRanks::interrupt() {
  const std::lock_guard lock(mutex_);
  interrupted_ = true;
  for (const Rank& rank : ranks_) {
    PyThreadState_SetAsyncExc(rank.thread, PyExc_KeyboardInterrupt);
    rank.world->abort("interrupted");
  }
}

void run_interruptibly(PythonRanks& ranks, const std::function<void()>& start) {
  const at::ThreadLocalState caller_state;
  std::promise<void> promise;
  std::future<void> done = promise.get_future();
  std::thread thread([&] {
    const at::ThreadLocalStateGuard state(caller_state);
    try {
      start();
      promise.set_value();
    } catch (...) {
      promise.set_exception(std::current_exception());
    }
  });
  std::exception_ptr signal;
  while (done.wait_for(kSignalInterval) != std::future_status::ready) {
    const py::gil_scoped_acquire gil;
    if (PyErr_CheckSignals() != 0) {
      const auto raised = std::make_exception_ptr(py::error_already_set());
      if (signal == nullptr) {
        signal = raised;
      }
      // Each time: a rank may have caught what an earlier one raised there.
      ranks.interrupt();
    }
  }
  thread.join();
  if (signal != nullptr) {
    std::rethrow_exception(signal);
  }
  done.get();
}

}  // namespace colonnade::python

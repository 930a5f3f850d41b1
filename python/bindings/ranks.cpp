// python/bindings/ranks.cpp
#include "bindings.h"
#include "colonnade/core/error.h"
#include "colonnade/launch/launch.h"
#include "colonnade/random/generators.h"
#include "python_ranks.h"

#include <pybind11/functional.h>

#include <chrono>
#include <cmath>
#include <memory>
#include <optional>
#include <string>

namespace colonnade::python {
namespace {

namespace py = pybind11;

LaunchOptions launch_options(int threads, std::string backend,
                             std::optional<double> timeout, bool pin) {
  LaunchOptions options{
      .threads = threads, .backend = std::move(backend), .pin = pin};
  if (timeout.has_value()) {
    options.timeout = timeout_of(*timeout);
  }
  return options;
}

void run_thread_ranks(int n, const std::function<void(int)>& body,
                      const std::string& backend, std::optional<double> timeout,
                      bool pin) {
  check_arg(!inside_python_rank(),
            "run_ranks: called inside a rank; a rank cannot have ranks of its "
            "own, so call it before or after the outer run_ranks");
  const LaunchOptions options = launch_options(n, backend, timeout, pin);
  PythonRanks ranks;
  run_interruptibly(ranks, [&] {
    run_ranks(
        n, [&](int rank) { ranks.run_rank([&] { body(rank); }); }, options);
  });
}

void run_launched(const std::function<void(int)>& body, int threads,
                  const std::string& backend, std::optional<double> timeout,
                  bool pin) {
  check_arg(!inside_python_rank(),
            "launch: called inside a rank; a rank cannot have ranks of its "
            "own, so call it before or after the outer launch");
  PythonRanks ranks;
  const auto start = [&] {
    launch([&](int rank) { ranks.run_rank([&] { body(rank); }); },
           launch_options(threads, backend, timeout, pin));
  };
  if (launcher_name().empty()) {
    run_interruptibly(ranks, start);
  } else {
    start();  // The one rank here is the caller's thread, which signals reach.
  }
}

}  // namespace

void bind_ranks(py::module_& m) {
  m.def("run_ranks", &run_thread_ranks, ReleaseGil());
  m.def("launch", &run_launched, ReleaseGil());
  m.def("inside_rank", &inside_python_rank);
  m.def("manual_seed", &manual_seed, ReleaseGil());
  m.def("random_state", [] {
    const RandomState state = random_state();
    return std::pair(state.replicated, state.tensor_parallel);
  });
  m.def("set_random_state",
        [](const at::Tensor& replicated, const at::Tensor& tensor_parallel) {
          set_random_state({replicated, tensor_parallel});
        });
  m.def(
      "current_generator",
      [](at::Device device) { return current_generator(device); },
      py::arg("device") = at::Device(at::kCPU));

  // A with-statement's scope: entered and left on one thread.
  py::class_<TensorParallelRandomScope>(m, "TensorParallelRandomScope")
      .def(py::init<bool>());
  m.def("in_tensor_parallel_random", &in_tensor_parallel_random);
}

}  // namespace colonnade::python

// python/bindings/bindings.h
// What each source of the extension module adds to it.
#pragma once

#include <torch/csrc/utils/pybind.h>

#include <chrono>

namespace colonnade::python {

void bind_errors(pybind11::module_& m);
void bind_groups(pybind11::module_& m);
void bind_ranks(pybind11::module_& m);
void bind_parallel_state(pybind11::module_& m);
void bind_sharding(pybind11::module_& m);
void bind_layers(pybind11::module_& m);
void bind_checkpoint(pybind11::module_& m);
void bind_trace(pybind11::module_& m);
void bind_torch_backend(pybind11::module_& m);
void bind_torch_groups(pybind11::module_& m);

/// A timeout in seconds as Python gives it; negative is for ever.
std::chrono::milliseconds timeout_of(double seconds);

/// Throws the caller's mistake, or what is wrong on disk, that Python code has
/// raised as the C++ error that it is; any other as it came. Called with the
/// interpreter held.
[[noreturn]] void throw_own(const pybind11::error_already_set& error);

/// Releases the interpreter while a function runs: ranks that wait for each
/// other never hold it.
using ReleaseGil = pybind11::call_guard<pybind11::gil_scoped_release>;

}  // namespace colonnade::python

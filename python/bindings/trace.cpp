// python/bindings/trace.cpp
#include "bindings.h"
#include "colonnade/core/error.h"
#include "colonnade/trace/parallel_model_save_load.h"
#include "colonnade/trace/parallel_model_trace.h"
#include "colonnade/trace/tensor_parallel_model.h"
#include "module_mirror.h"
#include "python_ranks.h"
#include "values.h"

#include <pybind11/stl/filesystem.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace colonnade::python {
namespace {

namespace py = pybind11;
using c10::IValue;
using trace::TensorParallelModel;

/// An object that threads without the interpreter may let go of.
using SharedObject = std::shared_ptr<py::object>;

SharedObject share(py::object object) {
  return {new py::object(std::move(object)), [](py::object* last) {
            const py::gil_scoped_acquire gil;
            delete last;
          }};
}

std::vector<IValue> inputs_from(const py::tuple& args) {
  std::vector<IValue> inputs;
  for (const py::handle arg : args) {
    inputs.push_back(value_from(arg, concat("input ", inputs.size())));
  }
  return inputs;
}

/// Calls a Python model on the thread of a rank, which does not hold the
/// interpreter.
IValue call_model(const SharedObject& model,
                  const std::vector<IValue>& inputs) {
  const PythonRankScope rank;
  const py::gil_scoped_acquire gil;
  py::list arguments;
  for (const IValue& input : inputs) {
    arguments.append(object_from(input));
  }
  return value_from((*model)(*arguments), "trace: the output");
}

/// What tracing sees of the model that the Python function `func` returns.
trace::Traceable make_model(const SharedObject& func) {
  const PythonRankScope rank;
  const py::gil_scoped_acquire gil;
  py::object made = (*func)();
  ModuleMirror mirror = mirror_of(made, Buffers::kAll);
  py::module_::import("colonnade.parallel_layers").attr("name_layers")(made);
  made.attr("eval")();
  const SharedObject model = share(std::move(made));
  return {std::move(mirror), [model](const std::vector<IValue>& inputs) {
            return call_model(model, inputs);
          }};
}

TensorParallelModel trace_model(py::object func, const py::tuple& inputs,
                                int64_t tp_degree,
                                std::vector<std::vector<int64_t>> dynamic_dims,
                                bool allow_random,
                                std::optional<int64_t> second_degree,
                                bool optimize) {
  const SharedObject shared = share(std::move(func));
  const std::vector<IValue> values = inputs_from(inputs);
  trace::TraceOptions options;
  options.dynamic_dims = std::move(dynamic_dims);
  options.allow_random = allow_random;
  options.second_degree = second_degree;
  options.optimize = optimize;
  const py::gil_scoped_release release;
  return trace::parallel_model_trace(
      trace::MakeTraceable([&] { return make_model(shared); }), values,
      tp_degree, options);
}

TensorParallelModel load_model(const std::filesystem::path& load_dir,
                               std::optional<int64_t> tp_degree,
                               std::vector<std::string> namespaces,
                               bool optimize, at::Device device) {
  trace::LoadOptions options;
  options.namespaces = std::move(namespaces);
  options.optimize = optimize;
  options.device = device;
  return trace::parallel_model_load(load_dir, tp_degree, options);
}

py::object call(TensorParallelModel& model, const py::args& args) {
  const std::vector<IValue> inputs = inputs_from(args);
  IValue output;
  {
    const py::gil_scoped_release release;
    output = model.forward(inputs);
  }
  return object_from(output);
}

py::list call_all_ranks(TensorParallelModel& model, const py::args& args) {
  const std::vector<IValue> inputs = inputs_from(args);
  std::vector<IValue> outputs;
  {
    const py::gil_scoped_release release;
    outputs = model.forward_all_ranks(inputs);
  }
  py::list result;
  for (const IValue& output : outputs) {
    result.append(object_from(output));
  }
  return result;
}

}  // namespace

void bind_trace(py::module_& m) {
  py::class_<TensorParallelModel>(
      m, "TensorParallelModel",
      "A traced model on all its ranks, called like the model it was made of.\n"
      "\nRank 0 is the thread that calls; the other ranks are threads that "
      "sleep between\ncalls. Calls of several threads are served one after the "
      "other.")
      .def("__call__", &call)
      .def("forward", &call, "The output of rank 0.")
      .def("forward_all_ranks", &call_all_ranks,
           "The outputs of all ranks of this process, in rank order.")
      .def("compare_ranks", &TensorParallelModel::compare_ranks,
           py::arg("enabled") = true,
           "From now on compares the outputs of all ranks after every call.")
      .def("reset_state", &TensorParallelModel::reset_state, ReleaseGil(),
           "Puts buffers that forward writes to back to what they were when "
           "the model was traced.")
      .def("new_session", &TensorParallelModel::new_session, ReleaseGil(),
           "The same weights and ranks, a state of its own.")
      .def(
          "eval", [](py::object self) { return self; },
          "Itself: a traced model is in eval state.")
      .def_property_readonly("tensor_parallel_size",
                             &TensorParallelModel::tensor_parallel_size)
      .def_property_readonly(
          "fixed_to_degree",
          [](const TensorParallelModel& model) { return model.graph().fixed; },
          "Why the graph is valid at its degree only; None where it is at all.")
      .def_property_readonly(
          "graph",
          [](const TensorParallelModel& model) {
            return to_string(model.graph());
          },
          "For people: the graph as traced, one line a call.");
  m.def("trace_model", &trace_model);
  m.def(
      "save_model",
      [](const TensorParallelModel& model,
         const std::filesystem::path& save_dir) {
        trace::parallel_model_save(model, save_dir);
      },
      ReleaseGil());
  m.def("load_traced", &load_model, ReleaseGil());
}

}  // namespace colonnade::python

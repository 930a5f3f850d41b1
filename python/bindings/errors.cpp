// python/bindings/errors.cpp
#include "bindings.h"
#include "colonnade/core/error.h"

#include <c10/util/Exception.h>
#include <torch/csrc/Exceptions.h>

#include <exception>
#include <string>
#include <utility>

namespace colonnade::python {
namespace {

namespace py = pybind11;

// The classes as Python sees them; never freed, like the module itself.
PyObject* error_class = nullptr;
PyObject* invalid_argument_class = nullptr;
PyObject* comm_error_class = nullptr;
PyObject* checkpoint_error_class = nullptr;

PyObject* make_class(py::module_& m, const char* name, const char* doc,
                     PyObject* base, PyObject* second_base = nullptr) {
  py::tuple bases =
      second_base == nullptr
          ? py::make_tuple(py::handle(base))
          : py::make_tuple(py::handle(base), py::handle(second_base));
  const std::string full_name = std::string("colonnade.") + name;
  PyObject* made =
      PyErr_NewExceptionWithDoc(full_name.c_str(), doc, bases.ptr(), nullptr);
  if (made == nullptr) {
    throw py::error_already_set();
  }
  m.attr(name) = py::handle(made);
  return made;
}

/// Colonnade's own errors, wherever in this process they reach Python: also out
/// of an op that torch calls.
void translate(std::exception_ptr error) {
  try {
    std::rethrow_exception(std::move(error));
  } catch (const InvalidArgument& e) {
    PyErr_SetString(invalid_argument_class, e.what());
  } catch (const CommError& e) {
    PyErr_SetString(comm_error_class, e.what());
  } catch (const CheckpointError& e) {
    PyErr_SetString(checkpoint_error_class, e.what());
  } catch (const Error& e) {
    PyErr_SetString(error_class, e.what());
  }
}

/// Torch's errors become the classes that torch gives them.
void translate_torch(std::exception_ptr error) {
  try {
    std::rethrow_exception(error);
  } catch (const c10::Error&) {
    torch::translate_exception_to_python(error);
  }
}

}  // namespace

void throw_own(const py::error_already_set& error) {
  const std::string message = py::str(error.value());
  if (error.matches(invalid_argument_class)) {
    throw InvalidArgument(message);
  }
  if (error.matches(checkpoint_error_class)) {
    throw CheckpointError(message);
  }
  throw error;
}

void bind_errors(py::module_& m) {
  error_class = make_class(m, "Error", "Everything that this library raises.",
                           PyExc_RuntimeError);
  invalid_argument_class =
      make_class(m, "InvalidArgument",
                 "The caller's mistake, found before any communication.",
                 error_class, PyExc_ValueError);
  comm_error_class =
      make_class(m, "CommError",
                 "A peer that failed, left, stayed silent or called something "
                 "else.",
                 error_class);
  checkpoint_error_class = make_class(
      m, "CheckpointError",
      "Bytes on disk that are missing, damaged or do not fit.", error_class);
  py::register_exception_translator(&translate);
  py::register_local_exception_translator(&translate_torch);
}

}  // namespace colonnade::python

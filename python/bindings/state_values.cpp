// python/bindings/state_values.cpp
#include "state_values.h"

#include "colonnade/core/error.h"
#include "type_name.h"

#include <torch/csrc/autograd/python_variable.h>

#include <type_traits>
#include <utility>
#include <variant>

namespace colonnade::python {
namespace {

namespace py = pybind11;

/// Where in a dict a value is.
struct Place {
  const std::string& subject;
  std::string path;

  Place at(const std::string& name) const {
    return {subject, path.empty() ? name : path + "." + name};
  }
};

StateDict from_dict(const py::dict& dict, const Place& place);

StateKey key_from(py::handle key, const Place& place) {
  if (py::isinstance<py::str>(key)) {
    return key.cast<std::string>();
  }
  check_arg(PyLong_CheckExact(key.ptr()), place.subject, ": ",
            place.path.empty() ? "the state dict" : place.path,
            " has a key of type ", type_name(key),
            "; keys are strings and ints");
  return key.cast<int64_t>();
}

StateValue value_from(py::handle value, const Place& place);

StateList list_from(py::handle sequence, const Place& place, bool is_tuple) {
  StateList list{.items = {}, .is_tuple = is_tuple};
  for (const py::handle item : sequence.cast<py::sequence>()) {
    list.items.push_back(
        value_from(item, place.at(std::to_string(list.items.size()))));
  }
  return list;
}

StateValue int_from(py::handle value, const Place& place) {
  int overflow = 0;
  const int64_t number = PyLong_AsLongLongAndOverflow(value.ptr(), &overflow);
  check_arg(overflow == 0, place.subject, ": ", place.path, ": the int ",
            std::string(py::str(value)), " has more than 64 bits");
  return number;
}

/// A tuple, or one of the classes of tuples that may come back as a tuple.
bool is_tuple(py::handle value) {
  static const py::handle classes =
      py::make_tuple(
          py::module_::import("torch").attr("Size"),
          py::module_::import("colonnade.random").attr("RandomState"))
          .release();
  return PyTuple_CheckExact(value.ptr()) || py::isinstance(value, classes);
}

StateValue value_from(py::handle value, const Place& place) {
  PyObject* const object = value.ptr();
  if (value.is_none()) {
    return {};
  }
  if (THPVariable_Check(object)) {
    return value.cast<at::Tensor>();
  }
  if (PyBool_Check(object)) {
    return value.cast<bool>();
  }
  if (PyLong_CheckExact(object)) {
    return int_from(value, place);
  }
  if (PyFloat_CheckExact(object)) {
    return value.cast<double>();
  }
  if (PyUnicode_CheckExact(object)) {
    return value.cast<std::string>();
  }
  if (PyDict_Check(object)) {
    return from_dict(value.cast<py::dict>(), place);
  }
  check_arg(is_tuple(value) || PyList_CheckExact(object), place.subject, ": ",
            place.path, " is of type ", type_name(value),
            "; a state dict holds tensors, numbers, strings, bools, None, "
            "lists, tuples and dicts");
  return list_from(value, place, is_tuple(value));
}

StateDict from_dict(const py::dict& dict, const Place& place) {
  StateDict state;
  for (const auto& item : dict) {
    const StateKey key = key_from(item.first, place);
    state[key] = value_from(item.second, place.at(to_string(key)));
  }
  return state;
}

py::object object_from(const StateValue& value);

py::object sequence_from(const StateList& list) {
  py::list items;
  for (const StateValue& item : list.items) {
    items.append(object_from(item));
  }
  return list.is_tuple ? py::object(py::tuple(items)) : py::object(items);
}

py::object tensor_from(const StateTensor& value) {
  if (!value.tensor.defined()) {
    return py::none();
  }
  if (value.attributes.has_value()) {
    set_tensor_parallel_attributes(value.tensor, *value.attributes);
  }
  return py::cast(value.tensor);
}

py::object object_from(const StateValue& value) {
  return std::visit(
      []<typename T>(const T& held) -> py::object {
        if constexpr (std::is_same_v<T, std::monostate>) {
          return py::none();
        } else if constexpr (std::is_same_v<T, StateTensor>) {
          return tensor_from(held);
        } else if constexpr (std::is_same_v<T, StateList>) {
          return sequence_from(held);
        } else if constexpr (std::is_same_v<T, StateDict>) {
          return dict_from(held);
        } else {
          return py::cast(held);
        }
      },
      value.variant());
}

}  // namespace

StateDict state_from(const py::dict& dict, const std::string& subject) {
  return from_dict(dict, {subject, ""});
}

py::dict dict_from(const StateDict& state) {
  py::dict dict;
  for (const auto& [key, value] : state) {
    const py::object name = std::visit(
        [](const auto& k) -> py::object { return py::cast(k); }, key);
    dict[name] = object_from(value);
  }
  return dict;
}

}  // namespace colonnade::python

// python/bindings/values.cpp
#include "values.h"

#include "colonnade/core/error.h"
#include "type_name.h"

#include <ATen/core/Dict.h>
#include <ATen/core/List.h>
#include <ATen/core/ivalue_inl.h>
#include <ATen/core/jit_type.h>
#include <torch/csrc/autograd/python_variable.h>

#include <utility>
#include <vector>

namespace colonnade::python {
namespace {

namespace py = pybind11;
using c10::IValue;

std::vector<IValue> items_from(const py::handle& sequence,
                               const std::string& name) {
  std::vector<IValue> items;
  for (const py::handle item : sequence.cast<py::sequence>()) {
    items.push_back(value_from(item, concat(name, "[", items.size(), "]")));
  }
  return items;
}

IValue list_from(const py::handle& object, const std::string& name) {
  c10::impl::GenericList list(c10::AnyType::get());
  for (IValue& item : items_from(object, name)) {
    list.push_back(std::move(item));
  }
  return list;
}

bool is_mapping(const py::handle& object) {
  static const py::handle mapping_class =
      py::object(py::module_::import("collections.abc").attr("Mapping"))
          .release();
  return PyDict_Check(object.ptr()) || py::isinstance(object, mapping_class);
}

IValue dict_from(const py::handle& object, const std::string& name) {
  std::vector<std::pair<IValue, IValue>> entries;
  bool by_name = true;
  for (const py::handle item : object.attr("items")()) {
    const auto [key, value] = item.cast<std::pair<py::object, py::object>>();
    by_name = by_name && PyUnicode_Check(key.ptr());
    check_arg(PyUnicode_Check(key.ptr()) || PyLong_CheckExact(key.ptr()), name,
              " has a key of type ", type_name(key),
              "; keys are strings or ints");
    const std::string place = concat(name, ".", std::string(py::str(key)));
    entries.emplace_back(value_from(key, place), value_from(value, place));
  }
  c10::impl::GenericDict dict(by_name ? c10::TypePtr(c10::StringType::get())
                                      : c10::TypePtr(c10::IntType::get()),
                              c10::AnyType::get());
  for (auto& [key, value] : entries) {
    check_arg(key.isString() == by_name, name,
              " has keys that are strings and keys that are ints");
    dict.insert(std::move(key), std::move(value));
  }
  return dict;
}

}  // namespace

IValue value_from(const py::handle& object, const std::string& name) {
  PyObject* const p = object.ptr();
  if (THPVariable_Check(p)) {
    return object.cast<at::Tensor>();
  }
  if (object.is_none()) {
    return {};
  }
  if (PyBool_Check(p)) {
    return object.cast<bool>();
  }
  if (PyLong_Check(p)) {
    return object.cast<int64_t>();
  }
  if (PyFloat_Check(p)) {
    return object.cast<double>();
  }
  if (PyUnicode_Check(p)) {
    return object.cast<std::string>();
  }
  if (PyTuple_Check(p)) {
    return c10::ivalue::Tuple::create(items_from(object, name));
  }
  if (PyList_Check(p)) {
    return list_from(object, name);
  }
  check_arg(is_mapping(object), name, " is of type ", type_name(object),
            "; give tensors, ints, floats, bools, strings, and tuples, lists "
            "and dicts of them");
  return dict_from(object, name);
}

py::object object_from(const IValue& value) {
  if (value.isTensor()) {
    return py::cast(value.toTensor());
  }
  if (value.isNone()) {
    return py::none();
  }
  if (value.isBool()) {
    return py::bool_(value.toBool());
  }
  if (value.isInt()) {
    return py::int_(value.toInt());
  }
  if (value.isDouble()) {
    return py::float_(value.toDouble());
  }
  if (value.isString()) {
    return py::str(value.toStringRef());
  }
  if (value.isGenericDict()) {
    py::dict dict;
    for (const auto& entry : value.toGenericDict()) {
      dict[object_from(entry.key())] = object_from(entry.value());
    }
    return dict;
  }
  py::list items;
  if (value.isTuple()) {
    for (const IValue& item : value.toTupleRef().elements()) {
      items.append(object_from(item));
    }
    return py::tuple(items);
  }
  for (const IValue& item : value.toListRef()) {
    items.append(object_from(item));
  }
  return items;
}

}  // namespace colonnade::python

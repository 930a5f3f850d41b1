// python/bindings/type_name.h
#pragma once

#include <torch/csrc/utils/pybind.h>

#include <string>

namespace colonnade::python {

/// The name of an object's class as a user would write it: "int",
/// "numpy.ndarray".
inline std::string type_name(const pybind11::handle& object) {
  const pybind11::handle type = pybind11::type::handle_of(object);
  const auto module = type.attr("__module__").cast<std::string>();
  const auto name = type.attr("__qualname__").cast<std::string>();
  return module == "builtins" ? name : module + "." + name;
}

}  // namespace colonnade::python

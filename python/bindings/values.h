// python/bindings/values.h
#pragma once

#include <ATen/core/ivalue.h>
#include <torch/csrc/utils/pybind.h>

#include <string>

namespace colonnade::python {

/// A tensor, int, float, bool, string or None, or a tuple, list or dict of
/// them. A dict may be of any class that is a mapping, such as the outputs of
/// transformers.
///
/// name    what to call the value in an error
/// Errors  InvalidArgument names the place of anything else, and its type
c10::IValue value_from(const pybind11::handle& object, const std::string& name);

/// The other way round: tuples, lists and dicts of Python's own.
pybind11::object object_from(const c10::IValue& value);

}  // namespace colonnade::python

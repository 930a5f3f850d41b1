// python/bindings/state_values.h
#pragma once

#include "colonnade/checkpoint/state_dict.h"

#include <torch/csrc/utils/pybind.h>

#include <string>

namespace colonnade::python {

/// The state dict of a Python dict: tensors, numbers, strings, bools, None,
/// lists, tuples and dicts.
///
/// subject  begins the text of an error
/// Errors   InvalidArgument names the key of anything else, and its type
StateDict state_from(const pybind11::dict& dict, const std::string& subject);

/// The other way round. Tensors keep their tensor-parallel attributes.
pybind11::dict dict_from(const StateDict& state);

}  // namespace colonnade::python

// colonnade/trace/detail/structure.h
#pragma once

#include "colonnade/trace/graph.h"

#include <ATen/core/ivalue.h>

#include <string>
#include <string_view>
#include <vector>

namespace colonnade::trace::detail {

/// Takes a value apart: appends its leaves (tensors, ints, floats, bools,
/// strings) and returns how they are nested.
///
/// Errors  InvalidArgument, beginning with `subject`, names a leaf of another
///         type
Structure flatten(const c10::IValue& value, std::vector<c10::IValue>& leaves,
                  std::string_view subject);

/// Puts leaves together again. Lists and dicts of one type of leaf have that
/// type.
c10::IValue unflatten(const Structure& structure,
                      const std::vector<c10::IValue>& leaves);

/// How a tuple of `inputs` is nested, and its leaves.
Structure flatten_inputs(const std::vector<c10::IValue>& inputs,
                         std::vector<c10::IValue>& leaves);

/// The names of the leaves: "input 0", "input 1[2]", "input 0.mask".
std::vector<std::string> leaf_names(const Structure& inputs);

/// For errors: "a tuple of 2", "a leaf".
std::string describe(const Structure& structure);

}  // namespace colonnade::trace::detail

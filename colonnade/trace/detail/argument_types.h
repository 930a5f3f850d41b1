// colonnade/trace/detail/argument_types.h
#pragma once

#include "colonnade/trace/graph.h"

#include <ATen/core/jit_type.h>

namespace colonnade::trace::detail {

/// For errors: "a value", "an int".
const char* kind_of(const Argument& argument);

/// Whether an argument can stand where a number does.
bool is_number(const Argument& argument);

/// Whether replay can hand the argument to an op that declares this type. A
/// dtype, layout or memory format is one that torch has, since ops look it up
/// in tables; not the layout Mkldnn, on which many crash. No argument fits a
/// Storage, a Stream, a class.
bool accepts(const c10::Type& type, const Argument& argument);

/// Whether an op that declares this type can give the result; it may always be
/// dropped.
bool gives(const c10::Type& type, const Result& result);

}  // namespace colonnade::trace::detail

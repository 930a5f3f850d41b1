// colonnade/trace/detail/op_name.h
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

#include <cstddef>
#include <optional>
#include <string>

namespace colonnade::trace::detail {

/// The op that a Node names, "aten::add.Tensor"; none where this process has
/// none of that name.
std::optional<c10::OperatorHandle> find_op(const std::string& name);

/// The name of an op's argument; its number where the op has no such.
std::string argument_name(const std::string& op, size_t index);

}  // namespace colonnade::trace::detail

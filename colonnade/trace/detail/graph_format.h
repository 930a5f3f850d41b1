// colonnade/trace/detail/graph_format.h
#pragma once

#include "colonnade/trace/detail/op_name.h"

#include <cstdint>
#include <string>

namespace colonnade::trace::detail {

// The words of graph.json; docs/trace_format.md describes it.

inline constexpr const char* kFormat = "colonnade graph";
inline constexpr int kVersion = 1;
inline constexpr const char* kRoundings[] = {"exact", "floor", "ceil"};
inline constexpr const char* kInputKinds[] = {"tensor", "int", "float", "bool",
                                              "string"};
inline constexpr const char* kStructures[] = {"leaf", "none", "tuple", "list",
                                              "dict"};
inline constexpr char kValueSign = '%';
inline constexpr char kExpressionSign = '$';

inline std::string reference(char sign, int64_t index) {
  return sign + std::to_string(index);
}

/// An op's schema as this process has it; empty where it lacks the op.
inline std::string schema_of(const std::string& op) {
  const auto found = find_op(op);
  return found.has_value() ? c10::toString(found->schema()) : "";
}

}  // namespace colonnade::trace::detail

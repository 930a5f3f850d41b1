// colonnade/trace/detail/values.h
#pragma once

#include "colonnade/trace/graph.h"

#include <variant>
#include <vector>

namespace colonnade::trace::detail {

/// Calls f(id) for every value in an argument, each time that it is there.
template <typename F>
void for_each_value(const Argument& argument, F&& f) {
  if (argument.is<Value>()) {
    f(argument.as<Value>().id);
  } else if (argument.is<ArgumentList>()) {
    for (const Argument& item : argument.as<ArgumentList>()) {
      for_each_value(item, f);
    }
  }
}

/// The same for all arguments of a node.
template <typename F>
void for_each_argument_value(const Node& node, F&& f) {
  for (const Argument& argument : node.arguments) {
    for_each_value(argument, f);
  }
}

/// Calls f(id) for every value among the results of a call.
template <typename F>
void for_each_result_value(const std::vector<Result>& results, F&& f) {
  for (const Result& result : results) {
    if (const auto* value = std::get_if<Value>(&result)) {
      f(value->id);
    } else if (const auto* list = std::get_if<std::vector<Value>>(&result)) {
      for (const Value& item : *list) {
        if (item.id >= 0) {
          f(item.id);
        }
      }
    }
  }
}

}  // namespace colonnade::trace::detail

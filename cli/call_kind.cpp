// cli/call_kind.cpp
#include "cli/call_kind.h"

#include <ATen/core/dispatch/Dispatcher.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

namespace colonnade::cli {
namespace {

using trace::Argument;
using trace::ArgumentList;
using trace::Graph;
using trace::Node;
using trace::Value;
using trace::Weight;

/// "add" of "aten::add.Tensor".
std::string_view base_name(std::string_view op) {
  op.remove_prefix(std::min(op.find("::") + 2, op.size()));
  return op.substr(0, op.find('.'));
}

/// Null where this process does not know the op.
const c10::FunctionSchema* schema_of(const std::string& op) {
  const size_t dot = op.find('.');
  const auto handle = c10::Dispatcher::singleton().findSchema(
      {op.substr(0, dot), dot == std::string::npos ? "" : op.substr(dot + 1)});
  return handle.has_value() ? &handle->schema() : nullptr;
}

/// What the call is given for an argument; null where there is no such.
const Argument* argument_named(const Node& node, const std::string& name) {
  const c10::FunctionSchema* const schema = schema_of(node.op);
  const auto index =
      schema != nullptr ? schema->argumentIndexWithName(name) : std::nullopt;
  return index.has_value() && *index >= 0 &&
                 static_cast<size_t>(*index) < node.arguments.size()
             ? &node.arguments[static_cast<size_t>(*index)]
             : nullptr;
}

/// Ops that take a group to know their part, and exchange nothing.
constexpr std::array<std::string_view, 5> kSilent = {
    "copy_to_tensor_model_parallel_region",
    "scatter_to_tensor_model_parallel_region",
    "scatter_to_sequence_parallel_region",
    "vocab_embedding",
    "zero_padding",
};

/// Ops that exchange something only where one of these is true.
constexpr std::array<std::string_view, 2> kIfAsked = {"column_parallel_linear",
                                                      "row_parallel_linear"};
constexpr std::array<const char*, 3> kAsking = {
    "gather_output", "reduce_output", "sequence_parallel_enabled"};

bool is_collective(const Graph& graph, const Node& node) {
  if (!node.op.starts_with("colonnade::") ||
      argument_named(node, "group") == nullptr) {
    return false;
  }
  const std::string_view name = base_name(node.op);
  if (std::ranges::find(kSilent, name) != kSilent.end()) {
    return false;
  }
  if (std::ranges::find(kIfAsked, name) != kIfAsked.end()) {
    return std::ranges::any_of(kAsking, [&](const char* flag) {
      const Argument* const given = argument_named(node, flag);
      return given != nullptr && *given == Argument{true};
    });
  }
  if (name == "key_value_heads") {  // gathered where they do not divide
    const Argument* const heads = argument_named(node, "num_kv_heads");
    return heads != nullptr && heads->is<int64_t>() &&
           heads->as<int64_t>() % graph.degree != 0;
  }
  return true;
}

bool is_product(std::string_view name) {
  constexpr std::array<std::string_view, 7> kParts = {
      "linear", "matmul", "mm", "addmv", "conv", "attention", "einsum"};
  return std::ranges::any_of(kParts, [&](std::string_view part) {
    return name.find(part) != std::string_view::npos;
  });
}

bool is_view(const std::string& op) {
  const c10::FunctionSchema* const schema = schema_of(op);
  if (schema == nullptr || schema->returns().empty()) {
    return false;
  }
  const c10::AliasInfo* const alias = schema->returns()[0].alias_info();
  return alias != nullptr && !alias->isWrite();
}

const Weight* weight_of(const Graph& graph, int value) {
  const auto weight = std::ranges::find(graph.weights, value, &Weight::value);
  return weight != graph.weights.end() ? &*weight : nullptr;
}

void add_values(const Argument& argument, std::vector<int>& values) {
  if (argument.is<Value>()) {
    values.push_back(argument.as<Value>().id);
  } else if (argument.is<ArgumentList>()) {
    for (const Argument& item : argument.as<ArgumentList>()) {
      add_values(item, values);
    }
  }
}

}  // namespace

CallKind kind_of(const Graph& graph, const Node& node) {
  if (is_collective(graph, node)) {
    return CallKind::kCollective;
  }
  for (const int value : values_given(node)) {
    const Weight* const weight = weight_of(graph, value);
    if (weight != nullptr && weight->kind == Weight::Kind::kState) {
      return CallKind::kState;
    }
  }
  if (is_product(base_name(node.op))) {
    return CallKind::kProduct;
  }
  return is_view(node.op) ? CallKind::kView : CallKind::kOther;
}

std::vector<int> values_given(const Node& node) {
  std::vector<int> values;
  for (const Argument& argument : node.arguments) {
    add_values(argument, values);
  }
  return values;
}

std::vector<int> values_made(const Node& node) {
  std::vector<int> values;
  for (const trace::Result& result : node.results) {
    if (const auto* const one = std::get_if<Value>(&result)) {
      values.push_back(one->id);
    } else if (const auto* const list =
                   std::get_if<std::vector<Value>>(&result)) {
      for (const Value& value : *list) {
        values.push_back(value.id);
      }
    }
  }
  return values;
}

int64_t bytes_made(const Graph& graph, const Node& node) {
  int64_t bytes = 0;
  if (!is_view(node.op)) {
    for (const int value : values_made(node)) {
      bytes += graph.values[static_cast<size_t>(value)].example_bytes;
    }
  }
  return bytes;
}

}  // namespace colonnade::cli

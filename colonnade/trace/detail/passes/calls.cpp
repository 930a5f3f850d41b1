// colonnade/trace/detail/passes/calls.cpp
#include "colonnade/trace/detail/passes/calls.h"

#include "colonnade/core/error.h"
#include "colonnade/trace/detail/op_name.h"

#include <ATen/core/enum_tag.h>

#include <algorithm>
#include <string>

namespace colonnade::trace::detail {
namespace {

bool is_generator(const c10::Argument& argument) {
  const c10::TypePtr& type = argument.type();
  const auto* optional = type->castRaw<c10::OptionalType>();
  return (optional == nullptr ? type : optional->getElementType())->kind() ==
         c10::TypeKind::GeneratorType;
}

/// Every rank of the group that it names must make such a call.
bool is_collective(const Node& node, const c10::FunctionSchema& schema) {
  return node.op.find("c10d") != std::string::npos ||
         std::ranges::any_of(schema.arguments(), [](const auto& argument) {
           return argument.name() == "group" || argument.name() == "group_name";
         });
}

void rename(Argument& argument, int from, int to) {
  if (argument == Argument{Value{from}}) {
    argument = {Value{to}};
  } else if (auto* list = std::get_if<ArgumentList>(&argument.what)) {
    for (Argument& item : *list) {
      rename(item, from, to);
    }
  }
}

}  // namespace

c10::OperatorHandle op_of(const Node& node) {
  const auto op = find_op(node.op);
  check_arg(op.has_value(), "optimize: there is no op ", node.op,
            "; load the library that registers it");
  return *op;
}

std::string_view base_name(const Node& node) {
  const std::string_view name = node.op;
  return name.substr(0, name.find('.', name.find("::")));
}

bool is_written(const c10::Argument& argument) {
  return (argument.alias_info() != nullptr &&
          argument.alias_info()->isWrite()) ||
         argument.name().starts_with("running_");
}

bool is_pure(const Node& node) {
  const c10::OperatorHandle op = op_of(node);
  const c10::FunctionSchema& schema = op.schema();
  return !node.results.empty() &&
         std::ranges::none_of(schema.arguments(), is_written) &&
         std::ranges::none_of(schema.arguments(), is_generator) &&
         !op.hasTag(at::Tag::nondeterministic_seeded) &&
         !is_collective(node, schema) &&
         node.op.find("assert") == std::string::npos &&
         std::ranges::none_of(node.results, [](const Result& result) {
           return std::holds_alternative<Guard>(result);
         });
}

int only_result(const Node& node) {
  const auto* value =
      node.results.size() == 1 ? std::get_if<Value>(&node.results[0]) : nullptr;
  return value == nullptr ? -1 : value->id;
}

std::optional<size_t> only_reader(const Graph& graph, size_t maker, int value) {
  const auto count_in = [&](const Node& node) {
    int count = 0;
    for_each_argument_value(node, [&](int id) { count += id == value; });
    return count;
  };
  std::optional<size_t> reader;
  for (size_t i = maker + 1; i < graph.nodes.size(); ++i) {
    const int count = count_in(graph.nodes[i]);
    if (count > 1 || (count == 1 && reader.has_value())) {
      return std::nullopt;
    }
    if (count == 1) {
      reader = i;
      if (only_result(graph.nodes[i]) == value) {
        return reader;  // whoever asks later asks for what it has written
      }
    }
  }
  return is_output(graph, value) ? std::nullopt : reader;
}

bool is_output(const Graph& graph, int value) {
  bool found = false;
  for (const Argument& output : graph.outputs) {
    for_each_value(output, [&](int id) { found = found || id == value; });
  }
  return found;
}

void rename(Node& node, int from, int to) {
  for (Argument& argument : node.arguments) {
    rename(argument, from, to);
  }
  for (Result& result : node.results) {
    if (result == Result(Value{from})) {
      result = Value{to};
    }
  }
}

int add_value(Graph& graph, int like) {
  graph.values.push_back(graph.values[static_cast<size_t>(like)]);
  return static_cast<int>(graph.values.size()) - 1;
}

}  // namespace colonnade::trace::detail

// colonnade/trace/detail/graph_json.cpp
#include "colonnade/trace/detail/graph_json.h"

#include "colonnade/core/error.h"
#include "colonnade/trace/detail/graph_format.h"
#include "colonnade/trace/detail/graph_reader.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <map>
#include <string_view>
#include <utility>

namespace colonnade::trace::detail {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

ordered_json to_json(double value) {
  if (std::isnan(value)) {
    return {{"float", "nan"}};
  }
  if (std::isinf(value)) {
    return {{"float", value < 0 ? "-inf" : "inf"}};
  }
  return value;
}

ordered_json to_json(const Argument& argument) {
  if (argument.is<Value>()) {
    return reference(kValueSign, argument.as<Value>().id);
  }
  if (argument.is<ExpressionRef>()) {
    return reference(kExpressionSign, argument.as<ExpressionRef>().index);
  }
  if (argument.is<FloatInput>()) {
    return {{"input", argument.as<FloatInput>().input}};
  }
  if (argument.is<WrappedNumber>()) {
    return {{"number", to_json(argument.as<WrappedNumber>().number.at(0))}};
  }
  if (argument.is<bool>()) {
    return argument.as<bool>();
  }
  if (argument.is<int64_t>()) {
    return argument.as<int64_t>();
  }
  if (argument.is<double>()) {
    return to_json(argument.as<double>());
  }
  if (argument.is<c10::complex<double>>()) {
    const auto& value = argument.as<c10::complex<double>>();
    ordered_json parts = ordered_json::array();
    parts.push_back(to_json(value.real()));
    parts.push_back(to_json(value.imag()));
    return {{"complex", std::move(parts)}};
  }
  if (argument.is<std::string>()) {
    return {{"string", argument.as<std::string>()}};
  }
  if (argument.is<c10::Device>()) {
    return {{"device", argument.as<c10::Device>().str()}};
  }
  if (argument.is<ArgumentList>()) {
    ordered_json list = ordered_json::array();
    for (const Argument& item : argument.as<ArgumentList>()) {
      list.push_back(to_json(item));
    }
    return list;
  }
  return nullptr;
}

ordered_json to_json(const std::vector<Argument>& arguments) {
  return to_json(Argument{arguments});
}

ordered_json to_json(const Result& result) {
  if (const auto* value = std::get_if<Value>(&result)) {
    return to_json(Argument{*value});
  }
  if (const auto* guard = std::get_if<Guard>(&result)) {
    return {{"guard", to_json(guard->expected)}};
  }
  if (const auto* values = std::get_if<std::vector<Value>>(&result)) {
    ordered_json list = ordered_json::array();
    for (const Value& value : *values) {
      list.push_back(value.id < 0 ? ordered_json() : to_json(Argument{value}));
    }
    return list;
  }
  return nullptr;
}

ordered_json to_json(const Node& node) {
  ordered_json results = ordered_json::array();
  for (const Result& result : node.results) {
    results.push_back(to_json(result));
  }
  return {{"op", node.op},
          {"arguments", to_json(node.arguments)},
          {"results", std::move(results)}};
}

ordered_json to_json(const Expression& expression) {
  ordered_json terms = ordered_json::array();
  for (const Expression::Term& term : expression.terms) {
    terms.push_back({{"factor", term.factor}, {"variables", term.variables}});
  }
  return {{"terms", std::move(terms)},
          {"divisor", expression.divisor},
          {"over_degree", expression.over_degree},
          {"rounding", kRoundings[static_cast<size_t>(expression.rounding)]}};
}

ordered_json to_json(const Structure& structure) {
  using Kind = Structure::Kind;
  if (structure.kind == Kind::kNone) {
    return nullptr;
  }
  const char* const kind = kStructures[static_cast<size_t>(structure.kind)];
  if (structure.kind == Kind::kLeaf) {
    return kind;
  }
  ordered_json items = ordered_json::array();
  for (size_t i = 0; i < structure.items.size(); ++i) {
    ordered_json item = to_json(structure.items[i]);
    if (structure.kind == Kind::kDict) {
      const Argument& key = structure.keys[i];
      ordered_json entry = ordered_json::array();
      entry.push_back(key.is<std::string>()
                          ? ordered_json(key.as<std::string>())
                          : to_json(key));
      entry.push_back(std::move(item));
      item = std::move(entry);
    }
    items.push_back(std::move(item));
  }
  return {{kind, std::move(items)}};
}

ordered_json to_json(const Input& input) {
  ordered_json object = {
      {"name", input.name},
      {"kind", kInputKinds[static_cast<size_t>(input.kind)]}};
  if (input.kind == Input::Kind::kTensor) {
    object["value"] = to_json(Argument{Value{input.value}});
    object["dtype"] = c10::toString(input.dtype);
    ordered_json dims = ordered_json::array();
    for (const InputDim& dim : input.dims) {
      dims.push_back(
          dim.variable < 0
              ? ordered_json(dim.size)
              : ordered_json{{"size", dim.size}, {"variable", dim.variable}});
    }
    object["dims"] = std::move(dims);
    return object;
  }
  if (input.variable >= 0) {
    object["variable"] = input.variable;
  }
  object["constant"] = to_json(input.constant);
  return object;
}

ordered_json to_json(const Weight& weight) {
  ordered_json object = {{"kind", to_string(weight.kind)},
                         {"name", weight.name},
                         {"value", to_json(Argument{Value{weight.value}})}};
  if (!weight.aliases.empty()) {
    object["aliases"] = weight.aliases;
  }
  if (weight.kind == Weight::Kind::kState) {
    object["shape"] = weight.shape;
    object["split_dim"] = weight.split_dim;
    object["zero"] = weight.is_zero;
  }
  return object;
}

ordered_json to_json(const ValueInfo& info) {
  return {{"dtype", c10::toString(info.dtype)},
          {"shape", info.example_shape},
          {"bytes", info.example_bytes}};
}

ordered_json to_json(const Variable& variable) {
  return {{"name", variable.name}, {"example", variable.example}};
}

/// One item a line: people read and compare these files.
template <typename List>
std::string lines(const List& list) {
  std::string text = "[";
  for (const auto& item : list) {
    text += (text.size() == 1 ? "\n" : ",\n") + to_json(item).dump();
  }
  return text + "]";
}

/// The same with each item under its reference.
template <typename List>
std::string numbered_lines(char sign, const List& list) {
  std::string text = "{";
  for (size_t i = 0; i < list.size(); ++i) {
    text += concat(i == 0 ? "\n" : ",\n", '"', sign, i,
                   "\":", to_json(list[i]).dump());
  }
  return text + "}";
}

std::string schema_lines(const Graph& graph) {
  std::map<std::string, std::string> schemas;
  for (const Node& node : graph.nodes) {
    std::string& schema = schemas[node.op];
    if (schema.empty()) {
      schema = schema_of(node.op);
    }
    check_arg(!schema.empty(), "trace: this process has no op ", node.op,
              "; load the library that registers it");
  }
  std::string text = "{";
  for (const auto& [op, schema] : schemas) {
    text += concat(text.size() == 1 ? "\n" : ",\n", json(op).dump(), ":",
                   json(schema).dump());
  }
  return text + "}";
}

std::string text_of(const Graph& graph) {
  return concat(
      "{\"format\":", json(kFormat).dump(), ",\n\"version\":", kVersion,
      ",\n\"degree\":", graph.degree, ",\n\"fixed\":",
      graph.fixed.has_value() ? json(*graph.fixed).dump() : "null",
      ",\n\"random\":", json(graph.is_random).dump(), ",\n\"device\":",
      json(c10::DeviceTypeName(graph.device, /*lower_case=*/true)).dump(),
      ",\n\"ops\":", schema_lines(graph),
      ",\n\"variables\":", lines(graph.variables),
      ",\n\"expressions\":", numbered_lines(kExpressionSign, graph.expressions),
      ",\n\"input_structure\":", to_json(graph.input_structure).dump(),
      ",\n\"inputs\":", lines(graph.inputs),
      ",\n\"weights\":", lines(graph.weights),
      ",\n\"values\":", numbered_lines(kValueSign, graph.values),
      ",\n\"nodes\":", lines(graph.nodes),
      ",\n\"output_structure\":", to_json(graph.output_structure).dump(),
      ",\n\"outputs\":", to_json(graph.outputs).dump(), "}\n");
}

/// How deep arrays and objects are nested, at most. nlohmann's parser needs no
/// stack for that, but those who read what it gives do.
int depth_of(std::string_view text) {
  int depth = 0;
  int most = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      in_string = c != '"';
      i += c == '\\' ? 1 : 0;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      most = std::max(most, ++depth);
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return most;
}

}  // namespace

std::string to_json(const Graph& graph) {
  try {
    return text_of(graph);
  } catch (const json::exception& error) {
    throw InvalidArgument(
        concat("trace: the graph has a string that a file "
               "cannot hold: ",
               error.what()));
  }
}

Graph graph_from_json(const std::string& text, const std::string& subject) {
  check<CheckpointError>(text.size() <= kMaxJsonBytes, subject, ": has ",
                         text.size(), " bytes; a graph has at most ",
                         kMaxJsonBytes);
  check<CheckpointError>(depth_of(text) <= kMaxJsonDepth, subject,
                         ": is nested more than ", kMaxJsonDepth, " deep");
  try {
    return read_graph(json::parse(text), subject);
  } catch (const json::exception& error) {
    throw CheckpointError(concat(subject, ": is not JSON: ", error.what()));
  }
}

}  // namespace colonnade::trace::detail

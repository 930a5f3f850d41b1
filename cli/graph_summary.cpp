// cli/graph_summary.cpp
#include "cli/graph_summary.h"

#include "cli/format.h"
#include "colonnade/core/error.h"

#include <ATen/core/dispatch/Dispatcher.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

namespace colonnade::cli {
namespace {

using trace::Argument;
using trace::ArgumentList;
using trace::Graph;
using trace::Input;
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

std::string dtype_name(at::ScalarType dtype) {
  return c10::getDtypeNames(dtype).first;
}

std::string join(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) {
    text += (text.empty() ? "" : ", ") + word;
  }
  return text;
}

std::string describe_input(const Graph& graph, const Input& input) {
  if (input.kind != Input::Kind::kTensor) {
    constexpr std::array kNames = {"tensor", "int", "float", "bool", "string"};
    const std::string kind = kNames[static_cast<size_t>(input.kind)];
    const bool varies =
        input.variable >= 0 || (input.kind == Input::Kind::kFloat &&
                                input.constant.is<std::monostate>());
    return concat(input.name, ": ", kind,
                  varies ? "" : concat(" ", to_string(graph, input.constant)));
  }
  std::vector<std::string> dims;
  std::vector<std::string> free;
  for (const trace::InputDim& dim : input.dims) {
    if (dim.variable < 0) {
      dims.push_back(std::to_string(dim.size));
      continue;
    }
    const auto& variable = graph.variables[static_cast<size_t>(dim.variable)];
    dims.push_back(variable.name);
    free.push_back(
        concat(variable.name, " (", variable.example, " in the example)"));
  }
  return concat(input.name, ": ", dtype_name(input.dtype), " [", join(dims),
                "]", free.empty() ? "" : concat(", any ", join(free)));
}

std::string describe_output(const Graph& graph, const Argument& output) {
  if (!output.is<Value>()) {
    return to_string(graph, output);
  }
  const auto& info = graph.values[static_cast<size_t>(output.as<Value>().id)];
  return concat(dtype_name(info.dtype), " ",
                at::IntArrayRef(info.example_shape));
}

/// Tensors of some kinds, on one rank.
struct Total {
  int64_t count = 0;
  int64_t bytes = 0;
  std::vector<std::string> names;
};

template <typename Wanted>
Total total_of(const Graph& graph, const Wanted& wanted) {
  Total total;
  for (const Weight& weight : graph.weights) {
    if (wanted(weight.kind)) {
      ++total.count;
      total.bytes +=
          graph.values[static_cast<size_t>(weight.value)].example_bytes;
      total.names.push_back(weight.name);
    }
  }
  return total;
}

std::string describe_calls(const Graph& graph) {
  std::set<std::string_view> ops;
  int64_t collectives = 0;
  for (const Node& node : graph.nodes) {
    ops.insert(node.op);
    collectives += kind_of(graph, node) == CallKind::kCollective ? 1 : 0;
  }
  return concat(with_commas(static_cast<int64_t>(graph.nodes.size())), " of ",
                ops.size(), " ops; ", collectives, " are collectives");
}

constexpr size_t kNumber = 10;  // columns

struct OpRow {
  int64_t calls = 0;
  int64_t bytes = 0;
  double seconds = 0;
};

std::string table_line(const std::string& op, size_t width, const OpRow& row,
                       double total_seconds) {
  std::string line = left_aligned(op, width) +
                     right_aligned(with_commas(row.calls), kNumber) +
                     right_aligned(as_bytes(row.bytes), kNumber + 2);
  if (total_seconds > 0) {
    line += right_aligned(as_time(row.seconds), kNumber + 2) +
            right_aligned(as_fixed(100 * row.seconds / total_seconds, 1) + "%",
                          kNumber);
  }
  return line + "\n";
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

std::string summary(const Graph& graph, const Graph& runs) {
  std::vector<std::string> inputs;
  for (const Input& input : graph.inputs) {
    inputs.push_back(describe_input(graph, input));
  }
  std::vector<std::string> outputs;
  for (const Argument& output : graph.outputs) {
    outputs.push_back(describe_output(graph, output));
  }
  const Total weights = total_of(
      graph, [](Weight::Kind kind) { return kind != Weight::Kind::kState; });
  Total states = total_of(
      graph, [](Weight::Kind kind) { return kind == Weight::Kind::kState; });
  if (states.names.size() > 5) {
    states.names.erase(states.names.begin() + 3, states.names.end() - 1);
    states.names.insert(states.names.end() - 1, "\u2026");
  }
  std::string text = concat("  calls    ", describe_calls(graph), "\n");
  if (runs.nodes.size() != graph.nodes.size()) {
    text += concat("  as run   ", describe_calls(runs), "; ",
                   runs.prologue.size(), " once\n");
  }
  for (const std::string& input : inputs) {
    text += concat("  ", input, "\n");
  }
  text += concat("  output   ", join(outputs), " in the example\n");
  text += concat("  degree   ", graph.degree,
                 graph.fixed.has_value() ? concat(" only: ", *graph.fixed)
                                         : ", or any other",
                 "\n  weights  ", weights.count, ", ", as_bytes(weights.bytes),
                 " a rank\n");
  if (states.count > 0) {
    text += concat("  states   ", states.count, ", ", as_bytes(states.bytes),
                   " a rank: ", join(states.names), "\n");
  }
  if (graph.is_random) {
    text += "  random   draws numbers from the ranks' generators\n";
  }
  return text;
}

std::string op_table(const Graph& graph, const std::vector<double>& seconds) {
  std::map<std::string, OpRow> by_op;
  OpRow total;
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    for (OpRow* row : {&by_op[node.op], &total}) {
      ++row->calls;
      row->bytes += bytes_made(graph, node);
      row->seconds += seconds.empty() ? 0 : seconds[i];
    }
  }
  std::vector<std::pair<std::string, OpRow>> rows(by_op.begin(), by_op.end());
  std::ranges::stable_sort(rows, [](const auto& a, const auto& b) {
    return std::pair(a.second.seconds, a.second.calls) >
           std::pair(b.second.seconds, b.second.calls);
  });
  size_t width = 0;
  for (const auto& [op, row] : rows) {
    width = std::max(width, op.size());
  }
  std::string text = left_aligned("op", width) +
                     right_aligned("calls", kNumber) +
                     right_aligned("results", kNumber + 2);
  if (!seconds.empty()) {
    text +=
        right_aligned("time", kNumber + 2) + right_aligned("share", kNumber);
  }
  text += "\n";
  for (const auto& [op, row] : rows) {
    text += table_line(op, width, row, total.seconds);
  }
  return text + table_line("total", width, total, total.seconds);
}

}  // namespace colonnade::cli

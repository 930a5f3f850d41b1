// cli/graph_summary.cpp
#include "cli/graph_summary.h"

#include "cli/call_kind.h"
#include "cli/format.h"
#include "colonnade/core/error.h"

#include <c10/core/ScalarType.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <string_view>
#include <utility>

namespace colonnade::cli {
namespace {

using trace::Argument;
using trace::Graph;
using trace::Input;
using trace::Node;
using trace::Value;
using trace::Weight;

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
  return concat(with_commas(static_cast<int64_t>(graph.nodes.size())),
                "; ops: ", ops.size(), "; collectives: ", collectives);
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
                   "once: ", runs.prologue.size(), "\n");
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

// colonnade/trace/detail/passes/aliases.cpp
#include "colonnade/trace/detail/passes/aliases.h"

#include "colonnade/trace/detail/passes/calls.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <string_view>

namespace colonnade::trace::detail {
namespace {

bool has_alias(const c10::Argument& argument) {
  return argument.alias_info() != nullptr;
}

/// Composite ops are trusted only by name: dropout without training gives back
/// its very input, and its schema does not say so.
bool is_known_to_be_new(std::string_view name) {
  constexpr std::array<std::string_view, 17> kBeginnings = {
      "aten::linear",     "aten::matmul",     "aten::conv",
      "aten::layer_norm", "aten::group_norm", "aten::rms_norm",
      "aten::softmax",    "aten::gru",        "aten::log_softmax",
      "aten::lstm",       "aten::rnn_",       "aten::scaled_dot_product",
      "aten::max_pool",   "aten::batch_norm", "aten::adaptive_avg_pool",
      "aten::square",     "aten::outer"};
  return std::ranges::any_of(kBeginnings, [&](std::string_view beginning) {
    return name.starts_with(beginning);
  });
}

/// Whether results may alias arguments though the schema names none.
bool may_alias_in_silence(const Node& node, const c10::OperatorHandle& op) {
  return node.op.find("unsafe_") != std::string::npos ||
         (op.hasKernelForDispatchKey(
              c10::DispatchKey::CompositeImplicitAutograd) &&
          !node.op.starts_with("colonnade::") && !is_known_to_be_new(node.op));
}

}  // namespace

Aliases::Aliases(const Graph& graph)
    : parents_(graph.values.size()), touched_(graph.values.size(), false) {
  std::iota(parents_.begin(), parents_.end(), 0);
  const auto for_each_node = [&](auto&& f) {
    std::ranges::for_each(graph.prologue, f);
    std::ranges::for_each(graph.nodes, f);
  };
  for_each_node([&](const Node& node) { add(node); });
  const auto touch = [&](int id) {
    touched_[static_cast<size_t>(root(id))] = true;
  };
  for_each_node([&](const Node& node) {
    const auto& arguments = op_of(node).schema().arguments();
    for (size_t i = 0; i < node.arguments.size(); ++i) {
      if (is_written(arguments.at(i))) {
        for_each_value(node.arguments[i], touch);
      }
    }
  });
  for (const Argument& output : graph.outputs) {
    for_each_value(output, touch);
  }
  for (const Weight& weight : graph.weights) {
    if (weight.kind == Weight::Kind::kState) {
      touch(weight.value);
    }
  }
}

void Aliases::add(const Node& node) {
  const c10::OperatorHandle op = op_of(node);
  const c10::FunctionSchema& schema = op.schema();
  const bool declared = std::ranges::any_of(schema.returns(), has_alias);
  if (!declared && !may_alias_in_silence(node, op)) {
    return;
  }
  for (size_t i = 0; i < node.arguments.size(); ++i) {
    if (!declared || has_alias(schema.arguments().at(i))) {
      for_each_value(node.arguments[i], [&](int from) {
        for_each_result_value(node.results, [&](int to) { join(from, to); });
      });
    }
  }
}

int Aliases::root(int value) const {
  while (parents_[static_cast<size_t>(value)] != value) {
    value = parents_[static_cast<size_t>(value)];
  }
  return value;
}

void Aliases::join(int a, int b) {
  parents_[static_cast<size_t>(root(a))] = root(b);
}

bool Aliases::keeps_its_data(int value) const {
  return !touched_[static_cast<size_t>(root(value))];
}

}  // namespace colonnade::trace::detail
